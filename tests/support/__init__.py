"""What tests share: programs run as processes, frames, archives, brokers."""
