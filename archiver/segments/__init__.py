"""A stream's segment file while it is open: its partial, its carried frames, its digest.

core/ decides where it begins and ends, recording/ when it is committed.
"""
