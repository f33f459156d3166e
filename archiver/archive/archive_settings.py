"""The settings of an archive: `archive.settings` in its private directory, beside its identity.

So `verify`, `repair` and `replay` find its checksums without a flag, and an archiver that is started with other flags
is refused instead of keeping checksums in two places. `archiver relocate` changes them.
"""

import contextlib
import re
import shlex
from dataclasses import dataclass, replace

from archiver.archive import identity
from archiver.archive.checksums import CHECKSUMS
from archiver.archive.location import SETTINGS, Checksums, Location, check_apart
from archiver.core.paths import ID
from g3stream.host.fsync import make_directory

_HEAD = "# Of this archive. `archiver relocate` changes it.\n"


class SettingsError(OSError):
    """The archive's settings differ from the flags; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The settings of an archive that must not change while it is used."""

    checksums: Checksums = Checksums.BESIDE
    moving_to: Checksums | None = None
    """Where an interrupted `archiver relocate` was moving the checksums."""


def parse(text: str) -> ArchiveSettings | None:
    """Parse the file; None if it is invalid, or has settings that this version doesn't know."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = dict(line.partition("=")[::2] for line in lines if line and not line.startswith("#"))
    try:
        found = {name: Checksums(value) for name, value in pairs.items()}
    except ValueError:
        return None
    if "checksums" not in found or found.keys() - {"checksums", "becoming"}:
        return None
    return ArchiveSettings(found["checksums"], found.get("becoming"))


def format_settings(settings: ArchiveSettings) -> str:
    """Format the file's text."""
    text = f"{_HEAD}checksums={settings.checksums}\n"
    return text + (f"becoming={settings.moving_to}\n" if settings.moving_to else "")


def read(location: Location) -> ArchiveSettings | None:
    """Read an archive's settings; None if it has none. Raises OSError, also if they can't be understood."""
    return location.read_private(SETTINGS, parse, "a later version's? It must say checksums=beside")


def default_settings(location: Location) -> ArchiveSettings:
    """The settings of an archive without the file: it is of an earlier version, or lost it. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), location.private(CHECKSUMS):
        return ArchiveSettings(Checksums.PRIVATE)
    return ArchiveSettings()


def write(location: Location, settings: ArchiveSettings) -> None:
    """Replace an archive's settings, durably and atomically. Raises OSError."""
    with location.private() as private:
        private.replace_file(SETTINGS, format_settings(settings).encode("ascii"))


def with_settings(location: Location) -> Location:
    """The location with its archive's own settings, for commands that only read. Raises SettingsError, OSError."""
    check_apart(location)
    found = read(location) or default_settings(location)
    _check_not_moving(location, found)
    return replace(location, checksums=found.checksums)


def choose_settings(location: Location, asked: Checksums | None) -> Location:
    """The location with its archive's settings, or those that a new one will have; asked: the flag. Writes nothing.

    Raises SettingsError if the archive has other settings than asked for, LocationError, OSError.
    """
    check_apart(location)
    found, used = read(location), is_in_use(location)
    default = Location(location.data_dir)
    if location.private_dir and not used and is_in_use(default):
        why = f"the archive's private directory is {default.private_path}; to move it, stop its archivers, and run"
        raise _error(why, location)
    if found is None:
        found = default_settings(location) if used else ArchiveSettings(asked or Checksums.BESIDE)
    _check_not_moving(location, found)
    if asked and asked is not found.checksums:
        why = f"the archive has --checksums {found.checksums}, not {asked}; to change that"
        raise _error(f"{why}, stop its archivers, and run", location, asked)
    return replace(location, checksums=found.checksums)


def initialize(location: Location, asked: Checksums | None) -> Location:
    """Create an archive's directories and settings, if they are missing; returns its location with the settings.

    For programs that write to it. Raises what `choose_settings` raises, before anything is created.
    """
    location = choose_settings(location, asked)
    make_directory(location.data_dir)
    # Another user who can open a lock file or a partial could lock it, and so keep archivers from starting, or make
    # them believe that another archiver has it open.
    make_directory(location.private_path, private=True)
    if read(location) is None and (location.private_dir or location.checksums is not Checksums.BESIDE):
        write(location, ArchiveSettings(location.checksums))
    return location


def _error(why: str, location: Location, checksums: Checksums | None = None) -> SettingsError:
    """The error to raise; its message ends with the command that an operator must run."""
    words = ["archiver", "relocate", "--data-dir", str(location.data_dir)]
    if location.private_dir:
        words += ["--private-dir", str(location.private_dir)]
    if checksums:
        words += ["--checksums", checksums]
    return SettingsError(None, f"{why}: {shlex.join(words)}")


def _check_not_moving(location: Location, found: ArchiveSettings) -> None:
    if found.moving_to:
        raise _error("the archive's checksums were being moved; run again", location, found.moving_to)


def is_in_use(location: Location) -> bool:
    """Whether the private directory has been used: it has an identity, or a stream's directory."""
    with contextlib.suppress(FileNotFoundError), location.private() as private:
        return any(name == identity.IDENTITY or re.fullmatch(ID, name) for name in private.names())
    return False
