"""The archive of one consumer group in one data directory: whose it is, its claims, and its streams' files."""

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
    """Where an archive is: its root (the data directory), its consumer group and its host's name.

    ids: by which checkpoints may name it, its own first (archive/identity.py); none of who doesn't record into it.
    md5: whether events of finished files bear an MD5, too.
    private_dir, checksums: as Location has them.
    """

    root: Path
    group: str
    host: str
    ids: tuple[str, ...] = ()
    md5: bool = False
    private_dir: Path | None = None
    checksums: Checksums = Checksums.BESIDE

    @classmethod
    def from_location(cls, location: Location, group: str, host: str, *, md5: bool = False) -> Self:
        """The archive of that group there."""
        return cls(location.data_dir, group, host, (), md5, location.private_dir, location.checksums)

    @property
    def location(self) -> Location:
        """Where it lies; the way to all that it has on disk."""
        return Location(self.root, self.private_dir, self.checksums)

    @property
    def mark(self) -> ArchiveMark | None:
        """What a checkpoint of it says of it."""
        return ArchiveMark(self.ids[0], where(self.host, self.root, self.private_dir)) if self.ids else None

    def private(self, stream: str) -> Directory:
        """The directory of a stream's partials, made if missing. Raises OSError."""
        return self.location.private(stream, make=True)

    def claim(self, stream: str, *, alone: bool) -> int:
        """Claim a stream's files: those who record it share it, who rebuilds it has it alone. Gives the descriptor of
        a lock that lasts until that is closed. Raises OSError, also if it is claimed otherwise."""
        by = "it is being recorded, or rebuilt by another replay," if alone else "it is being rebuilt"
        return self._lock(stream, _LOCK, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, by)

    def claim_repair(self, stream: str) -> int:
        """Claim the repair of a stream's files, beside those who record it; as `claim`."""
        return self._lock(stream, _REPAIR_LOCK, fcntl.LOCK_EX, "it is being repaired")

    def _lock(self, stream: str, name: str, how: int, by: str) -> int:
        try:
            with self.private(stream) as private:
                lock = private.lock(name, how)
        except BlockingIOError:
            raise OSError(errno.EBUSY, f"the stream {stream}: {by} in this directory now", str(self.root)) from None
        try:
            with self.location.private() as above:
                above.sync()  # a killed archiver may have made the stream's directory
        except BaseException:
            os.close(lock)
            raise
        return lock

    def publish(
        self, stream: str, partial: str, path: str, length: int, sha256: str, cancellation: CancellationToken
    ) -> str | None:
        """Give a partial its path; as segment_file.publish. Raises OSError, Cancelled."""
        with self.private(stream) as private:
            return publish(private, partial, self.location, path, length, sha256, cancellation)

    def publish_exactly(
        self, stream: str, partial: str, path: str, length: int, sha256: str, cancellation: CancellationToken
    ) -> None:
        """Give a partial that path and no other. Raises FileExistsError, OSError, Cancelled."""
        with self.private(stream) as private:
            publish(private, partial, self.location, path, length, sha256, cancellation, most=1)

    def add_checksum(self, stream: str, path: str, sha256: str) -> bool:
        """Give a published file its line in SHA256SUMS, or wherever its checksum goes; False, and an error in the
        log, if what others have put there takes none. Raises OSError."""
        try:
            checksums.add(self.location, stream, path, sha256)
        except sha256sums.ChecksumsUnusable as error:
            what = "%s: %s has no line in SHA256SUMS: %s. Move that away, then run `archiver repair`"
            log.error(what, stream, path, error)
            return False
        return True

    def discard(self, stream: str, partial: str) -> None:
        """Remove a partial, or what has been put in its place. Raises OSError."""
        with self.private(stream) as private:
            found = private.stat(partial)
            if found and stat.S_ISDIR(found.st_mode):
                private.rename(partial, private, f"{partial}.{secrets.token_hex(4)}")
            else:
                private.unlink(partial)

    def discard_copies(self, stream: str, partial_file: Partial) -> None:
        """Remove what else there is of a file that is finished, and committed as such: a partial that was held by an
        archiver that was frozen, and that another one went on with in a copy. Nobody needs it, held or not. Raises
        OSError."""
        with self.private(stream) as private:
            for name in private.names():
                found = PartialName.parse(name)
                if found and (found.path, found.first_ms) == (partial_file.path, partial_file.first.time):
                    private.unlink(name)
                    log.info("%s: removed %s, which another archiver had open; its file is finished", stream, name)
