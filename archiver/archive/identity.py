"""The identity of an archive: a random id in `archive.identity` of its private directory, created once.

Each line is an id and the consumer group that records here. The first is the archive's own id. Others are of archives
whose files were moved here; an operator adds these by hand, as an error message instructs (ownership.py).
"""

import contextlib
import re
import secrets
from dataclasses import dataclass

from archiver.archive.location import Location
from archiver.core.paths import GROUP
from archiver.storage.durable_file import write_temporary

IDENTITY = "archive.identity"
"""It has a dot in its name, which no stream has: the directories beside it are those of streams."""
_MAX_BYTES = 1 << 16
_LINE = re.compile(rf"([0-9a-f]{{16}}) ({GROUP.pattern})")


class IdentityError(OSError):
    """The identity can't be understood; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The ids of an archive, and its group."""

    ids: tuple[str, ...]
    """The archive's own first."""
    group: str
    """The consumer group that records it."""


def new_id() -> str:
    """Create an archive's id: 16 random hex digits."""
    return secrets.token_hex(8)


def parse(text: str) -> Identity | None:
    """Parse the file; None if it is invalid."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [match for line in lines if (match := _LINE.fullmatch(line))]
    groups = {match[2] for match in matches}
    if not matches or len(matches) != len(lines) or len(groups) != 1:
        return None
    return Identity(tuple(match[1] for match in matches), groups.pop())


def read(location: Location) -> Identity | None:
    """Read an archive's identity; None if it has none. Raises IdentityError, OSError.

    It is durable when this returns, also if a killed archiver created it.
    """
    try:
        with location.private() as private:
            if private.stat(IDENTITY) is None:
                return None
            regular = private.is_file(IDENTITY)
            found = parse(private.read(IDENTITY, _MAX_BYTES).decode(errors="replace")) if regular else None
            private.sync()
    except FileNotFoundError:
        return None  # nobody has recorded there
    if found is None:
        path = location.private_path / IDENTITY
        why = "it must have lines of 16 hex digits and one group" if regular else "it isn't a regular file"
        remedy = "Restore it, or move it away and start again: then the archiver says what it must contain"
        raise IdentityError(None, f"{path} can't be understood: {why}. {remedy}")
    return found


def create(location: Location, group: str) -> Identity:
    """Give an archive an identity, durably; returns the one that it has then: another archiver may be faster.

    Raises OSError.
    """
    with location.private() as private:
        temporary = write_temporary(private, IDENTITY, f"{new_id()} {group}\n".encode("ascii"))
        try:
            with contextlib.suppress(FileExistsError):  # another archiver was faster: its id counts
                private.publish(temporary, private, IDENTITY)
        finally:
            private.unlink(temporary)
    found = read(location)
    assert found
    return found
