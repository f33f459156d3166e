"""What a program that runs for months needs: arguments, logs, HTTP, metrics, an orderly stop.

Nothing here knows what the program does.
"""
