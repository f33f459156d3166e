"""Pages of quick looks, which the quick-look process is asked for."""
