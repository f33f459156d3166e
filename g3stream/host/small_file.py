"""Reads a file that a person wrote, whole; refuses what can't be one, as /dev/zero, before it fills the memory."""

import errno
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 4 << 20


def read_small_file(path: Path) -> bytes:
    """All bytes of a file, or pipe. Raises OSError, with EFBIG if there are more than MOST_BYTES."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}: above {MAX_BYTES >> 20} MiB", str(path))
    return data
