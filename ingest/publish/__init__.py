"""Publish the spool's records to the stream's topics, in order, each until Kafka has acknowledged it.

No sockets; the disk only through the spool.
"""
