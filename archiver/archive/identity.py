"""Which archive that is: a random id, in `archive.identity` of its private directory, made once and kept.

A line is an id and the consumer group that records here. The first is the archive's own id. Others are of archives
whose files were brought here; an operator adds those by hand, as a refusal says (ownership.py).
"""

import contextlib
import re
import secrets
from dataclasses import dataclass

from archiver.archive.location import Location
from archiver.core.paths import GROUP
from archiver.storage.durable_file import write_temporary

IDENTITY = "archive.identity"
"""With a dot, as no stream has one in its name: the directories beside it are streams'."""
_MAX_BYTES = 1 << 16
_LINE = re.compile(rf"([0-9a-f]{{16}}) ({GROUP.pattern})")


class IdentityError(OSError):
    """The identity can't be understood; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Identity:
    """ids: the archive's own first. group: who records it."""

    ids: tuple[str, ...]
    group: str


def new_id() -> str:
    """An archive's id: 16 random hex digits."""
    return secrets.token_hex(8)


def parse(text: str) -> Identity | None:
    """What the file says; None if it isn't one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    matches = [match for line in lines if (match := _LINE.fullmatch(line))]
    groups = {match[2] for match in matches}
    if not matches or len(matches) != len(lines) or len(groups) != 1:
        return None
    return Identity(tuple(match[1] for match in matches), groups.pop())


def read(location: Location) -> Identity | None:
    """An archive's; None if it has none. Durable when this returns, also if a killed archiver made it.

    Raises IdentityError, OSError.
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
        why = "it must have lines of 16 hex digits and one group" if regular else "it is no file"
        mend = "Restore it, or move it away and start again: what it has to say is told then"
        raise IdentityError(None, f"{path} can't be understood: {why}. {mend}")
    return found


def create(location: Location, group: str) -> Identity:
    """Give an archive an identity, durably; gives what it has then: another archiver may be faster.

    Raises OSError.
    """
    with location.private() as private:
        temporary = write_temporary(private, IDENTITY, f"{new_id()} {group}\n".encode("ascii"))
        try:
            with contextlib.suppress(FileExistsError):  # another archiver was faster: its id it is
                private.publish(temporary, private, IDENTITY)
        finally:
            private.unlink(temporary)
    found = read(location)
    assert found
    return found
