"""The contract between ingest, which publishes, and everyone who reads its topics.

Names of topics, headers of records, producer epochs, and what a topic's settings must be. Pure: the standard library
only; no Kafka client, no I/O, no clock.
"""
