"""The kernel that ingest, archiver and any other reader of the topics share.

What belongs here: the contract of the topics, the G3 frame format, Kafka clients' settings, and what every service
needs of its host. Nothing here imports ingest, archiver or the agents; nothing here knows of spools or files.
"""
