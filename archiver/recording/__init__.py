"""Recording of streams: records are written to open files, made durable, committed, and the files finished.

Each stream has a recorder; threads for slow work are in executors.py. Decisions are in core/.
"""
