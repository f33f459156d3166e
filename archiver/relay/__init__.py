"""Relay: serves a stream from Kafka to spt3g's readers, as the sender itself would. Nothing depends on it."""
