"""An archive: one consumer group's data directory, claims on its streams, their partials, and publishing (law 4)."""

import errno
import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from archiver.archive import checksums
from archiver.archive.location import Location
from archiver.core.checkpoint import ArchiveMark, Partial, where
from archiver.core.paths import PartialName
from archiver.storage import sha256sums
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

_LOCK = "claim.lock"
_REPAIR_LOCK = "repair.lock"
_MAX_SUFFIXES = 100_000


@dataclass(frozen=True, slots=True)
class ArchiveRoot:
    """An archive: its location, its consumer group and this host's name."""

    location: Location
    group: str
    host: str
    ids: tuple[str, ...] = ()
    """The ids that its checkpoints may have, its own first (identity.py); empty in programs that don't record."""
    md5: bool = False
    """Whether events of finished files have an MD5, too."""

    @property
    def mark(self) -> ArchiveMark | None:
        """What its checkpoints contain to identify it."""
        at = self.location
        return ArchiveMark(self.ids[0], where(self.host, at.data_dir, at.private_dir)) if self.ids else None

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
        with self.private(stream), self.location.private() as above:
            above.sync()  # a killed archiver may have created the stream's directory
        return self.location.lock(stream, name, how, f"the stream {stream}: {by} in this directory now")

    def publish(
        self,
        stream: str,
        partial: str,
        path: str,
        length: int,
        sha256: str,
        cancellation: CancellationToken,
        *,
        exactly: bool = False,
    ) -> str | None:
        """Give a partial its path in the archive, without replacing anything; returns the path that it got.

        That is `path`, or, if another file has it, the path with the next free number; exactly: only `path`.
        If a file of the same bytes has it, that is this file, published before; then the partial may be gone, or is
        moved now (on a file system without hard links). None if there is neither the partial nor such a file. Durable
        when this returns. Raises FileExistsError, OSError, Cancelled.
        """
        parent, _, _ = path.rpartition("/")
        stem, _, number = path.removesuffix(".g3").rpartition("_")
        with self.private(stream) as partials, self.location.data(parent, make=True) as directory:
            for suffix in range(int(number), int(number) + (1 if exactly else _MAX_SUFFIXES)):
                path = f"{stem}_{suffix:03d}.g3"
                final = path.removeprefix(f"{parent}/")
                try:
                    partials.publish(partial, directory, final)
                except (FileExistsError, FileNotFoundError) as error:
                    there = partials.stat(partial)
                    if there and isinstance(error, FileNotFoundError):  # others remove empty directories
                        raise OSError(errno.ENOENT, "its directory was removed just now", path) from None
                    if there is None and directory.stat(final) is None:
                        return None
                    if not _is_ours(there, directory, final, length, sha256, cancellation):
                        continue
                with directory.opened(final) as fd:
                    os.fsync(fd)
                directory.sync()
                while parent:  # directories may have been made before a kill, and not be durable yet
                    parent = parent.rpartition("/")[0]
                    with self.location.data(parent) as above:
                        above.sync()
                if partials.stat(partial) is None:  # it was moved: after a power cut it must have one name, too
                    partials.sync()
                return path
        raise FileExistsError(errno.EEXIST, "another file has its name", path)

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


def unlocked_partials(directory: Directory, names: Iterable[str]) -> list[str]:
    """Find those of these names that are partials, exist, and are not locked by any process. Raises OSError.

    A recording process holds an exclusive lock on its partial. It is detected by requesting a shared lock, because

    - that needs a descriptor open for reading only: NFS grants no exclusive lock on a file that isn't open for
      writing (EBADF), and `verify` may not be allowed to write;
    - two processes that check at the same time both get it, so neither takes the other for a recorder.

    The hazard: the shared lock is held for an instant. An archiver that reopens the same partial in that instant
    believes that another archiver has it open, and continues in a copy. So check only partials that nobody may reopen
    now.
    """
    found = []
    for name in names:
        if PartialName.parse(name) is None or not directory.is_file(name):
            continue
        try:
            with directory.opened(name) as fd:
                directory.flock(fd, fcntl.LOCK_SH, name)
                found.append(name)
        except BlockingIOError:
            pass  # it is being recorded, or its recorder is frozen and will notice when it thaws
        except FileNotFoundError:
            pass
        except PermissionError as error:  # another user's: it must not stop the stream
            log.warning("a partial that can't be read is left where it is, and recording continues: %s", error)
    return found


def _is_ours(
    partial: os.stat_result | None,
    directory: Directory,
    name: str,
    length: int,
    sha256: str,
    cancellation: CancellationToken,
) -> bool:
    """Whether the file of that name is the partial, or has its content. Raises OSError, Cancelled."""
    found = directory.stat(name)
    if partial and found and os.path.samestat(found, partial):
        return True
    try:
        return sha256sums.has_content(directory, name, length, sha256, cancellation)
    except PermissionError:  # if it is ours, its event was published
        return False
