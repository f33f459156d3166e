"""The contract between ingest, which publishes, and the programs that read its topics.

Topic names, record headers, producer epochs, and the settings that a topic must have. Pure: standard library only,
no Kafka client, no I/O, no clock.
"""
