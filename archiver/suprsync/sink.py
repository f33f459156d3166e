"""SupRsyncSink: registers finished files in the database of socs' SupRsync agent, which copies them.

A row is as socs' own agents make it: the absolute path, its last three parts as the remote path, the time of
registration as its timestamp, deletable. If the event of a file is delivered twice, there is still one row.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from archiver.archive.location import Location
from archiver.core.events import Event, FileFinished, FileSalvaged
from archiver.handover.sink import PendingEvent, SinkError

if TYPE_CHECKING:
    from archiver.suprsync.database import SupRsyncDatabase

log = logging.getLogger(__name__)


class RegistrationOutcome(Enum):
    """The outcome of a file's event; the value is a metric's label."""

    REGISTERED = "registered"
    KNOWN = "known"
    """The file had a row already."""
    GONE = "gone"
    """The file doesn't exist any more: there is nothing to copy."""
    DIFFERENT = "different"
    """The bytes or the row of the file differ from what was recorded."""


class Registered(NamedTuple):
    """How far registration is."""

    counts: dict[RegistrationOutcome, int]
    """Events since the start, by outcome."""
    last: str
    """Path of the last file that was registered; empty if none was."""


class SupRsyncSink:
    """A Sink (handover/sink.py) that registers files.

    location: of the archive. is_finalized: whether the file that says that a timecode is complete was written. now:
    returns the time, s since the epoch.
    """

    def __init__(
        self,
        location: Location,
        database: "SupRsyncDatabase",
        is_finalized: Callable[[int], bool] = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        # Another database has another position: all files that were ever recorded are registered in it.
        place = f"{database.path.absolute()} {database.archive_name}".encode(errors="surrogateescape")
        self.name = f"suprsync-{hashlib.sha256(place).hexdigest()[:8]}"
        self._location = location
        self._database = database
        self._is_finalized = is_finalized
        self._now = now
        self._counts = dict.fromkeys(RegistrationOutcome, 0)
        self._last = ""

    def wants(self, event: Event) -> bool:
        """As Sink's: only files that an archiver has written."""
        return isinstance(event, FileFinished | FileSalvaged)

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """As Sink's. Raises SinkError while the database or the data directory can't be used."""
        from archiver.suprsync.database import DatabaseError

        event = pending.event
        assert isinstance(event, FileFinished | FileSalvaged)
        try:
            outcome = self._register(event, abort)
        except DatabaseError as error:
            raise SinkError(str(error)) from error
        except OSError as error:
            raise SinkError(f"{event.path} can't be read: {error}") from error
        self._counts[outcome] += 1

    def registered(self) -> Registered:
        """Return how far it is; for any thread."""
        return Registered(dict(self._counts), self._last)

    def _register(self, event: FileFinished | FileSalvaged, abort: threading.Event) -> RegistrationOutcome:
        path = self._location.data_dir / event.path
        md5 = event.md5 if isinstance(event, FileFinished) else None
        look = self._database.lookup(path)  # first, as gigabytes need not be read if the event is delivered again
        known_md5 = look.md5
        if known_md5 is None:
            try:
                md5 = self._md5_of(event, md5, abort)
            except FileNotFoundError:
                return self._gone(event)
            if md5 is None:
                log.error(
                    "%s: %s isn't registered for transfer: its bytes aren't those recorded. Run `archiver repair`, "
                    "then register it with socs' command `suprsync`",
                    *(event.stream, path),
                )
                return RegistrationOutcome.DIFFERENT
            known_md5 = self._database.add(path, "/".join(path.parts[-3:]), md5, self._now(), look)
            if known_md5 is None:
                self._last = str(path)
                log.info("%s: registered %s", event.stream, path)
                if self._is_finalized(int(event.path[:5])):
                    text = "%s: %s was finished after its timecode was finalized; it is copied nevertheless"
                    log.warning(text, event.stream, path)
                return RegistrationOutcome.REGISTERED
        if md5 is None or known_md5 == md5:
            return RegistrationOutcome.KNOWN
        log.error(
            "%s: %s was recorded with the MD5 %s, but its row in %s has %s. The row isn't changed; with it the "
            "file isn't copied, or not as recorded. `archiver verify` shows which MD5 is right",
            *(event.stream, path, md5, self._database.path, known_md5),
        )
        return RegistrationOutcome.DIFFERENT

    def _md5_of(self, event: FileFinished | FileSalvaged, md5: str | None, abort: threading.Event) -> str | None:
        """Return a file's MD5; None if its bytes aren't those recorded. Raises OSError, SinkError.

        md5: computed while the file was written; if None, the file is read.
        """
        parent, _, name = event.path.rpartition("/")
        with self._location.data(parent) as directory:
            if directory.stat(name) is None:
                raise FileNotFoundError(event.path)
            if md5 is not None:
                return md5
            digest, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
            for block in directory.blocks(name):
                if abort.is_set():
                    raise SinkError(f"{event.path}: stopped while its MD5 was computed")
                digest.update(block)
                sha256.update(block)
        return digest.hexdigest() if sha256.hexdigest() == event.sha256 else None

    def _gone(self, event: FileFinished | FileSalvaged) -> RegistrationOutcome:
        with self._location.data(make=True):
            pass  # raises OSError for an empty mount point: of a disk that isn't mounted nothing is known
        log.warning("%s: %s doesn't exist any more: not registered for transfer", event.stream, event.path)
        return RegistrationOutcome.GONE
