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

IDENTITY = "archive.identity"
"""It has a dot in its name, which no stream has: the directories beside it are those of streams."""
_LINE = re.compile(rf"([0-9a-f]{{16}}) ({GROUP.pattern})")


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
    """Read an archive's identity; None if it has none. Raises OSError, also if it can't be understood.

    It is durable when this returns, also if a killed archiver created it.
    """
    must = "it must have lines of 16 hex digits and one group"
    remedy = ". Restore it, or move it away and start again: then the archiver says what it must contain"
    found = location.read_private(IDENTITY, parse, must, remedy)
    if found:
        with location.private() as private:
            private.sync()
    return found


def mismatch(location: Location, group: str) -> str:
    """Return why a directory isn't the archive of that group, in words; empty if it is. Raises OSError."""
    own = read(location)
    if own is None:
        return (
            "no archiver has recorded there, or its disk isn't mounted, or it has another --private-dir (for a new "
            "archive, start its archiver once)"
        )
    return "" if own.group == group else f"it is the archive of the group {own.group}, not {group}"


def create(location: Location, group: str) -> Identity:
    """Give an archive an identity, durably; returns the one that it has then: another archiver may be faster.

    Raises OSError.
    """
    text = f"{new_id()} {group}\n".encode("ascii")
    with (
        location.private() as private,
        private.temporary_file(IDENTITY, text) as temporary,
        contextlib.suppress(FileExistsError),  # another archiver was faster: its id counts
    ):
        private.publish(temporary, private, IDENTITY)
    found = read(location)
    assert found
    return found
