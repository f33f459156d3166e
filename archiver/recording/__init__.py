"""The recording of streams: records into open files, made durable, committed, and finished.

Each stream has a recorder; threads for slow work are in executors.py. Decisions are in core/.
"""
