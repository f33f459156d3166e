"""Small files of the private directory that an operator may edit, such as the archive's identity."""

from collections.abc import Callable
from typing import TypeVar

from archiver.archive.location import Location

_MAX_BYTES = 1 << 16

T = TypeVar("T")


class PrivateFileError(OSError):
    """A file can't be understood; the message says what to do."""


def read_private_file(
    location: Location, name: str, parse: Callable[[str], T | None], must: str, remedy: str = ""
) -> T | None:
    """Read a file; None if there is none. Raises PrivateFileError, OSError.

    parse: returns None if the text is invalid; then `must` says what it must be. remedy: what to do, in any case.
    """
    try:
        with location.private() as private:
            if private.stat(name) is None:
                return None
            regular = private.is_file(name)
            found = parse(private.read(name, _MAX_BYTES).decode(errors="replace")) if regular else None
    except FileNotFoundError:
        return None  # nobody has recorded there
    if found is None:
        why = must if regular else "it isn't a regular file"
        raise PrivateFileError(None, f"{location.private_path / name} can't be understood: {why}{remedy}")
    return found
