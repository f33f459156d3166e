"""The segment file of a stream while it is open: its partial, its carry, its digest.

Where it begins and ends is decided in core/; when it is committed, in recording/.
"""
