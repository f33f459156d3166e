"""Where an archive lies: its data directory, its private directory, and how its checksums are kept.

Software that reads the data directory may accept nothing in it but the layout's files. All else of the archive is in
its private directory: `.archiver` in the data directory, or, with --private-dir, one that is not below it. Files are
linked or renamed from there to the data directory, so both must be on one mount.
"""

import errno
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from archiver.core.paths import PRIVATE_DIRECTORY
from archiver.storage.directory import Directory
from archiver.storage.no_replace import on_other_mounts

SETTINGS = "archive.settings"
"""Of the archive, in its private directory (archive_settings.py). With a dot, as no stream has one in its name."""

SPOOL = ".spool"


class Checksums(StrEnum):
    """Where the SHA-256 of finished files is: in SHA256SUMS beside them, in the private directory, or nowhere."""

    BESIDE = "beside"
    PRIVATE = "private"
    OFF = "off"


class LocationError(OSError):
    """A data directory and a private directory that can't belong together; the message says why and what to do."""


class Within(NamedTuple):
    """A directory of an archive: its path below the private directory if `private`, else below the data directory."""

    below: str
    private: bool = False


@dataclass(frozen=True, slots=True)
class Location:
    """Where one archive lies. private_dir: None for `.archiver` in the data directory."""

    data_dir: Path
    private_dir: Path | None = None
    checksums: Checksums = Checksums.BESIDE

    @property
    def private_path(self) -> Path:
        """The private directory."""
        return self.private_dir or self.data_dir / PRIVATE_DIRECTORY

    @property
    def spool_path(self) -> Path:
        """Where the agent SmurfRecorder, which both receives and records, has its spool if it isn't told."""
        return (self.private_dir or self.data_dir) / SPOOL

    def data(self, below: str = "", *, make: bool = False) -> Directory:
        """A directory of the data directory. make: if it is missing, but not below an empty mount point. Raises
        OSError."""
        if self.private_dir is None:
            return Directory(self.data_dir, below, make=make)
        return Directory(self.data_dir, below, make=make, check=self._check_mount)

    def private(self, below: str = "", *, make: bool = False) -> Directory:
        """A directory of the private directory; as `data`."""
        if self.private_dir is None:
            return Directory(self.data_dir, f"{PRIVATE_DIRECTORY}/{below}", make=make)
        return Directory(self.private_dir, below, make=make, check=_check_in_use)

    def open(self, within: Within) -> Directory:
        """A directory of either. Raises OSError."""
        return self.private(within.below) if within.private else self.data(within.below)

    def shown(self, within: Within, name: str) -> str:
        """How a file in it is called in what people read: by its path below the data directory, if it is there."""
        if not within.private:
            return f"{within.below}/{name}"
        if self.private_dir is None:
            return f"{PRIVATE_DIRECTORY}/{within.below}/{name}"
        return str(self.private_dir / within.below / name)

    def _check_mount(self, data: Directory) -> None:
        """An empty mount point, whose disk is the private directory's when it is mounted, is on another mount."""
        assert self.private_dir
        with Directory(self.private_dir, "") as private:
            if on_other_mounts(private.fd, data.fd):
                why = f"it is on another mount than {self.private_dir}: is its disk mounted?"
                raise OSError(errno.ENODEV, why, str(self.data_dir))


def located(data_dir: Path, private_dir: Path | None, checksums: Checksums = Checksums.BESIDE) -> Location:
    """Where the archive lies of which these are the flags. No disk is looked at: it may hang."""
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
            f"--private-dir {private} lies in the data directory {data}: whoever reads that would find it. "
            f"Choose one beside it, such as {real_data}.private, or leave it out, for {PRIVATE_DIRECTORY}",
        )
    if real_data.is_relative_to(real_private):
        raise LocationError(
            None,
            f"the data directory {data} lies in --private-dir {private}, where directories are named as the streams "
            f"are. Choose another one, such as {real_data}.private",
        )


def _check_in_use(private: Directory) -> None:
    """An empty mount point isn't a private directory that has been in use. Raises OSError."""
    if private.stat(SETTINGS) is None:
        raise OSError(errno.ENODEV, f"no {SETTINGS} in it: is its disk mounted?", str(private.path))
