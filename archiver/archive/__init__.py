"""The archive as a whole: where it lies, whose it is, how it is kept, and who may write to it.

No frames, and no open segment file.
"""
