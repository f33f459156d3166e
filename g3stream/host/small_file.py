"""Read a whole file that a person wrote, of limited size: /dev/zero must not fill the memory."""

import errno
import os
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 4 << 20


def read_small_file(path: Path) -> bytes:
    """Return all bytes of a file or pipe. Raises OSError: EFBIG if there are more than MAX_BYTES."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise OSError(errno.EFBIG, f"{os.strerror(errno.EFBIG)}: above {MAX_BYTES >> 20} MiB", str(path))
    return data
