"""Parts of a long-running service: arguments, logs, HTTP, metrics, an orderly stop.

Nothing here knows what the program does.
"""
