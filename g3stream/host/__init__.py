"""Access to the host that a process runs on: its environment, standard streams and disks.

No Kafka, no frames: only the operating system, whose calls may fail or hang.
"""
