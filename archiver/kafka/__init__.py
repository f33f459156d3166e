"""What the archiver asks of Kafka: its streams' records, commits, the newest events, its own events published.

No files.
"""
