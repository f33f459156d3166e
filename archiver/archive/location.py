"""The location of an archive: its data directory, its private directory, and where its checksums are.

Software that reads the data directory may accept nothing in it but the layout's files. All else of the archive is in
its private directory: `.archiver` in the data directory, or, with --private-dir, one that is not below it. Files are
linked or renamed from there to the data directory, so both must be on one mount.
"""

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

from archiver.core.paths import PRIVATE_DIRECTORY
from archiver.storage.directory import Directory
from archiver.storage.no_replace import on_other_mounts

SETTINGS = "archive.settings"
"""In the private directory (archive_settings.py). It has a dot in its name, which no stream has."""

SPOOL = ".spool"
_MAX_BYTES = 1 << 16
"""Of a file that an operator may edit."""

T = TypeVar("T")


class Checksums(StrEnum):
    """Where the SHA-256 of finished files is: in SHA256SUMS beside them, in the private directory, or nowhere."""

    BESIDE = "beside"
    PRIVATE = "private"
    OFF = "off"


class LocationError(OSError):
    """The data directory and the private directory can't belong together; the message says why and what to do."""


class Within(NamedTuple):
    """A directory of an archive."""

    below: str
    """Its path below the data directory, or below the private directory."""
    private: bool = False
    """Whether it is in the private directory."""


@dataclass(frozen=True, slots=True)
class Location:
    """The location of an archive."""

    data_dir: Path
    private_dir: Path | None = None
    """None for `.archiver` in the data directory."""
    checksums: Checksums = Checksums.BESIDE

    @property
    def private_path(self) -> Path:
        """The private directory."""
        return self.private_dir or self.data_dir / PRIVATE_DIRECTORY

    @property
    def spool_path(self) -> Path:
        """The default spool directory of the agent SmurfRecorder, which both receives and records."""
        return (self.private_dir or self.data_dir) / SPOOL

    def data(self, below: str = "", *, make: bool = False) -> Directory:
        """Open a directory below the data directory. Raises OSError.

        make: create it if it is missing, but not below an empty mount point.
        """
        return Directory(self.data_dir, below, self._check_mount if make else None)

    def private(self, below: str = "", *, make: bool = False) -> Directory:
        """Open a directory below the private directory; as `data`."""
        if self.private_dir is None:
            return self.data(f"{PRIVATE_DIRECTORY}/{below}", make=make)
        return Directory(self.private_dir, below, _check_in_use if make else None)

    def open(self, within: Within, *, make: bool = False) -> Directory:
        """Open a directory below either; as `data`."""
        return (self.private if within.private else self.data)(within.below, make=make)

    def read_private(self, name: str, parse: Callable[[str], T | None], must: str, remedy: str = "") -> T | None:
        """Read a small file of the private directory that an operator may edit; None if there is none.

        parse: returns None if the text is invalid; then `must` says what it must be. remedy: what to do, in any case.
        Raises OSError, also if it can't be understood; the message says what to do.
        """
        try:
            with self.private() as private:
                if private.stat(name) is None:
                    return None
                regular = private.is_file(name)
                found = parse(private.read(name, _MAX_BYTES).decode(errors="replace")) if regular else None
        except FileNotFoundError:
            return None  # nobody has recorded there
        if found is None:
            why = must if regular else "it isn't a regular file"
            raise OSError(None, f"{self.private_path / name} can't be understood: {why}{remedy}")
        return found

    def lock(self, below: str, name: str, how: int, busy: str) -> int:
        """Lock a file below the private directory, as Directory.lock; busy: the error if another process holds it."""
        try:
            with self.private(below) as private:
                return private.lock(name, how)
        except BlockingIOError:
            raise OSError(errno.EBUSY, busy, str(self.data_dir)) from None

    def exists(self, within: Within, name: str) -> bool:
        """Whether there is anything of that name. Raises OSError."""
        with contextlib.suppress(FileNotFoundError), self.open(within) as directory:
            return directory.stat(name) is not None
        return False

    def shown(self, within: Within, name: str) -> str:
        """The path of a file for messages: below the data directory if it is there."""
        if not within.private:
            return f"{within.below}/{name}"
        if self.private_dir is None:
            return f"{PRIVATE_DIRECTORY}/{within.below}/{name}"
        return str(self.private_dir / within.below / name)

    def _check_mount(self, data: Directory) -> None:
        """Refuse a data directory without its private directory, or on another mount: it is an empty mount point."""
        if self.private_dir is None:
            if data.stat(PRIVATE_DIRECTORY):  # it was made when an archiver first started
                return
            why = f"no {PRIVATE_DIRECTORY} in it: is its disk mounted? Does the archive have another --private-dir?"
            raise OSError(errno.ENODEV, why, str(self.data_dir))
        with Directory(self.private_dir, "") as private:
            if on_other_mounts(private.fd, data.fd):
                why = f"it is on another mount than {self.private_dir}: is its disk mounted?"
                raise OSError(errno.ENODEV, why, str(self.data_dir))


def located(data_dir: Path, private_dir: Path | None, checksums: Checksums = Checksums.BESIDE) -> Location:
    """The location with these flags. No disk is accessed: it may hang."""
    data = data_dir.absolute()
    private = Path(os.path.abspath(private_dir)) if private_dir else None  # noqa: PTH100 - a Path keeps its `..`
    is_default = private == Path(os.path.abspath(data)) / PRIVATE_DIRECTORY  # noqa: PTH100
    return Location(data, None if is_default else private, checksums)


def check_apart(location: Location) -> None:
    """Raises LocationError if the data directory and the private directory can't belong together; OSError."""
    if location.private_dir is None:
        return
    data, private = location.data_dir, location.private_dir
    real_data, real_private = Path(os.path.realpath(data)), Path(os.path.realpath(private))
    if real_private.is_relative_to(real_data):
        raise LocationError(
            None,
            f"--private-dir {private} is in the data directory {data}: programs that read that would find it. "
            f"Choose one beside it, such as {real_data}.private, or leave it out, for {PRIVATE_DIRECTORY}",
        )
    if real_data.is_relative_to(real_private):
        raise LocationError(
            None,
            f"the data directory {data} is in --private-dir {private}, where directories have the names of "
            f"streams. Choose another one, such as {real_data}.private",
        )


def _check_in_use(private: Directory) -> None:
    """Refuse a private directory that has never been used: it is an empty mount point. Raises OSError."""
    if private.stat(SETTINGS) is None:
        raise OSError(errno.ENODEV, f"no {SETTINGS} in it: is its disk mounted?", str(private.path))
