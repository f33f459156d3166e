"""Files that survive a power cut, on every file system: directories, names, checksums, the page cache.

Nothing here knows what an archive, a stream or a frame is.
"""
