"""From the socket to records: the connection, the values read from a frame, and the records made of it.

No Kafka and no disk.
"""
