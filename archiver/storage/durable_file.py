"""Small files that appear atomically: written and synced under a temporary name, then renamed."""

import contextlib
import os
import secrets
from collections.abc import Iterator

from archiver.storage.directory import Directory


@contextlib.contextmanager
def temporary_file(directory: Directory, name: str, data: bytes) -> Iterator[str]:
    """A new durable file with this content, to be given its name in the with statement, which then removes it.

    Yields its name, `name` with a random suffix. Raises OSError; then there is no such file.
    """
    temporary = f"{name}.{secrets.token_hex(4)}"
    try:
        with os.fdopen(directory.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        directory.unlink(temporary)


def replace_file(
    directory: Directory, name: str, data: bytes, *, scratch: Directory | None = None, prefix: str | None = None
) -> None:
    """Replace a file's content, durably and atomically. Raises OSError; then nothing has changed.

    scratch: where the temporary file is written, by default in `directory`; prefix: of its name, by default `name`.
    """
    scratch = scratch or directory
    with temporary_file(scratch, prefix or name, data) as temporary:
        scratch.rename(temporary, directory, name)
    directory.sync()
