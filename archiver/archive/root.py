"""The root of an archive: one consumer group's data directory, claims on its streams, and their files."""

import errno
import fcntl
import logging
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from archiver.archive import checksums
from archiver.archive.finished_name import publish
from archiver.archive.location import Checksums, Location
from archiver.core.checkpoint import ArchiveMark, Partial, where
from archiver.core.paths import PartialName
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

_LOCK = "claim.lock"
_REPAIR_LOCK = "repair.lock"


@dataclass(frozen=True, slots=True)
class ArchiveRoot:
    """An archive: its location, its consumer group and this host's name."""

    root: Path
    """The data directory."""
    group: str
    host: str
    ids: tuple[str, ...] = ()
    """The ids that its checkpoints may have, its own first (identity.py); empty in programs that don't record."""
    md5: bool = False
    """Whether events of finished files have an MD5, too."""
    private_dir: Path | None = None
    """As in Location."""
    checksums: Checksums = Checksums.BESIDE

    @classmethod
    def from_location(cls, location: Location, group: str, host: str, *, md5: bool = False) -> Self:
        """The archive of that group at that location."""
        return cls(location.data_dir, group, host, (), md5, location.private_dir, location.checksums)

    @property
    def location(self) -> Location:
        """Its location, through which its directories are opened."""
        return Location(self.root, self.private_dir, self.checksums)

    @property
    def mark(self) -> ArchiveMark | None:
        """What its checkpoints contain to identify it."""
        return ArchiveMark(self.ids[0], where(self.host, self.root, self.private_dir)) if self.ids else None

    def private(self, stream: str) -> Directory:
        """Open the directory of a stream's partials, created if missing. Raises OSError."""
        return self.location.private(stream, make=True)

    def claim(self, stream: str, *, alone: bool) -> int:
        """Claim a stream's files: shared by the archivers that record it, or `alone` for a process that rebuilds it.

        Returns the descriptor of a lock, which closing it releases. Raises OSError, also if there is a conflicting
        claim.
        """
        by = "it is being recorded, or rebuilt by another replay," if alone else "it is being rebuilt"
        return self._lock(stream, _LOCK, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, by)

    def claim_repair(self, stream: str) -> int:
        """Claim the repair of a stream's files, which may be recorded at the same time; as `claim`."""
        return self._lock(stream, _REPAIR_LOCK, fcntl.LOCK_EX, "it is being repaired")

    def _lock(self, stream: str, name: str, how: int, by: str) -> int:
        try:
            with self.private(stream) as private:
                lock = private.lock(name, how)
        except BlockingIOError:
            raise OSError(errno.EBUSY, f"the stream {stream}: {by} in this directory now", str(self.root)) from None
        try:
            with self.location.private() as above:
                above.sync()  # a killed archiver may have created the stream's directory
        except BaseException:
            os.close(lock)
            raise
        return lock

    def publish(
        self, stream: str, partial: str, path: str, length: int, sha256: str, cancellation: CancellationToken
    ) -> str | None:
        """Publish a partial under its path; as finished_name.publish. Raises OSError, Cancelled."""
        with self.private(stream) as private:
            return publish(private, partial, self.location, path, length, sha256, cancellation)

    def publish_exactly(
        self, stream: str, partial: str, path: str, length: int, sha256: str, cancellation: CancellationToken
    ) -> None:
        """Publish a partial under that path and no other. Raises FileExistsError, OSError, Cancelled."""
        with self.private(stream) as private:
            publish(private, partial, self.location, path, length, sha256, cancellation, most=1)

    def add_checksum(self, stream: str, path: str, sha256: str) -> bool:
        """Add a finished file's line to its checksums file. Raises OSError.

        False, and an error is logged, if others have put something there to which no line can be added.
        """
        try:
            checksums.add(self.location, stream, path, sha256)
        except sha256sums.ChecksumsUnusable as error:
            what = "%s: %s has no line in SHA256SUMS: %s. Move that away, then run `archiver repair`"
            log.error(what, stream, path, error)
            return False
        return True

    def discard(self, stream: str, partial: str) -> None:
        """Remove a partial, or rename a directory that has been put in its place. Raises OSError."""
        with self.private(stream) as private:
            found = private.stat(partial)
            if found and stat.S_ISDIR(found.st_mode):
                private.rename(partial, private, f"{partial}.{secrets.token_hex(4)}")
            else:
                private.unlink(partial)

    def discard_copies(self, stream: str, partial_file: Partial) -> None:
        """Remove the other partials of a file that is finished and committed. Raises OSError.

        Such a partial was locked by a frozen archiver, so another one continued in a copy. Nobody needs it any more,
        locked or not.
        """
        with self.private(stream) as private:
            for name in private.names():
                found = PartialName.parse(name)
                if found and (found.path, found.first_ms) == (partial_file.path, partial_file.first.time):
                    private.unlink(name)
                    log.info("%s: removed %s, which another archiver had open; its file is finished", stream, name)
