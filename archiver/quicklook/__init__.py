"""Quick look: whether the latest seconds of each stream are sane. Optional; nothing else depends on it."""
