"""Reads G3 frames from a TCP connection and publishes each to its stream's Kafka topic."""
