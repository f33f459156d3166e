"""Test support: programs run as processes, frames, archives, brokers."""
