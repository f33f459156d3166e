"""From the spool to the stream's topics, in order, each record until Kafka has acknowledged it.

No sockets; the disk only through the spool.
"""
