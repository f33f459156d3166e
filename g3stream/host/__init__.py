"""What a process asks of the host that it runs on: its environment, its standard streams, its disks.

No Kafka, no frames: only the operating system, which may refuse, hang, or be missing.
"""
