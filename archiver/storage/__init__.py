"""Files that survive a power cut, on every file system: directories, names, checksums, the page cache.

Nothing here knows of archives, streams or frames.
"""
