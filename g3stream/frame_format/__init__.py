"""The G3 frame format: decode whole frames from bytes, unchanged, and verify their checksums.

Pure: no spt3g, no I/O, no clock.
"""
