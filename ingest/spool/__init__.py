"""What was received and Kafka has not acknowledged yet, on disk.

No sockets and no Kafka. spool.py is the room's door; its docstring shows the layout on disk.
"""
