"""Small files that appear atomically: written and synced under a temporary name, then renamed."""

import os
import secrets

from archiver.storage.directory import Directory


def write_temporary(directory: Directory, name: str, data: bytes) -> str:
    """Write a new file, durable when this returns; returns its name, which is `name` with a random suffix.

    Raises OSError; then there is no such file.
    """
    temporary = f"{name}.{secrets.token_hex(4)}"
    fd = directory.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        directory.unlink(temporary)
        raise
    return temporary


def replace_file(
    directory: Directory, name: str, data: bytes, *, scratch: Directory | None = None, prefix: str | None = None
) -> None:
    """Replace a file's content, durably and atomically. Raises OSError; then nothing has changed.

    scratch: where the temporary file is written, by default in `directory`; prefix: of its name, by default `name`.
    """
    scratch = scratch or directory
    temporary = write_temporary(scratch, prefix or name, data)
    try:
        scratch.rename(temporary, directory, name)
    except BaseException:
        scratch.unlink(temporary)
        raise
    directory.sync()
