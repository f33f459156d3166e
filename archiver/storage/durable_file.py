"""A small file that appears whole: written and durable under a temporary name, before it gets its own."""

import os
import secrets

from archiver.storage.directory import Directory


def write_temporary(directory: Directory, name: str, data: bytes) -> str:
    """Write a new file of that content, durable when this returns; gives its name, which is `name` and a random end.

    Raises OSError, and then there is no such file.
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
    """Give a file that content, durably, all at once. Raises OSError, and then nothing has changed.

    scratch: where it is written before, if not in that directory; prefix: how it is called there, if not as `name`.
    """
    scratch = scratch or directory
    temporary = write_temporary(scratch, prefix or name, data)
    try:
        scratch.rename(temporary, directory, name)
    except BaseException:
        scratch.unlink(temporary)
        raise
    directory.sync()
