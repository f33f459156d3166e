"""Shared kernel of ingest, archiver and every other reader of the topics.

Here belong the contract of the topics, the G3 frame format, the settings of Kafka clients, and what every service
needs from its host. Nothing here imports ingest, archiver or the agents, or knows about spools or segment files.
"""
