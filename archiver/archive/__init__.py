"""The archive as a whole: its location, identity and settings, its checksums, and locks on it.

Nothing here knows of frames, or of open segment files.
"""
