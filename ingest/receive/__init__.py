"""From the socket to records: the connection, what a frame says of itself, and the records made of it.

No Kafka and no disk.
"""
