"""The G3 frame format, read from bytes.

Whole frames from a stream of bytes, byte for byte, with their checksums verified. Pure: no spt3g, no I/O, no clock.
"""
