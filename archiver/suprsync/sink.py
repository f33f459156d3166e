"""Registers finished files in the database of socs' SupRsync agent, which copies what is registered there.

A row is as socs' own agents make it: the absolute path, the last three parts of it as the path at the other side,
the time of registration as its timestamp, deletable. The event of a file may come twice: there is one row then.
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
    """What became of the event of a file; its value is a label of a metric."""

    REGISTERED = "registered"
    KNOWN = "known"
    """It had a row already."""
    GONE = "gone"
    """The file isn't there any more: there is nothing to copy."""
    DIFFERENT = "different"
    """The file, or its row, has other bytes than those that were recorded."""


class Registered(NamedTuple):
    """How far registration is. counts: events since the start, by what became of them. last: the path of the file
    that was added last, "" if none was."""

    counts: dict[RegistrationOutcome, int]
    last: str


class SupRsyncSink:
    """A Sink (handover/sink.py). location: of the archive. is_finalized: whether a timecode has been said to be
    complete. now: the time, s since the epoch."""

    def __init__(
        self,
        location: Location,
        database: "SupRsyncDatabase",
        is_finalized: Callable[[int], bool] = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        # With another database it begins anew, with all that was ever recorded.
        place = f"{database.path.absolute()} {database.archive_name}".encode(errors="surrogateescape")
        self.name = f"suprsync-{hashlib.sha256(place).hexdigest()[:8]}"
        self._location = location
        self._database = database
        self._is_finalized = is_finalized
        self._now = now
        self._counts = dict.fromkeys(RegistrationOutcome, 0)
        self._last = ""

    def wants(self, event: Event) -> bool:
        """As Sink's: the files that the archiver has made."""
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
        """How far it is; for any thread."""
        return Registered(dict(self._counts), self._last)

    def _register(self, event: FileFinished | FileSalvaged, abort: threading.Event) -> RegistrationOutcome:
        path = self._location.data_dir / event.path
        md5 = event.md5 if isinstance(event, FileFinished) else None
        look = self._database.lookup(path)  # before gigabytes are read for an event that comes again
        known_md5 = look.md5
        if known_md5 is None:
            found = self._md5(event, md5, abort)
            if isinstance(found, RegistrationOutcome):
                return found
            md5 = found
            known_md5 = self._database.add(path, "/".join(path.parts[-3:]), md5, self._now(), look)
        if known_md5 is None:
            self._last = str(path)
            log.info("%s: registered %s", event.stream, path)
            if self._is_finalized(int(event.path[:5])):
                text = "%s: %s comes after its timecode was finalized; it is copied all the same"
                log.warning(text, event.stream, path)
            return RegistrationOutcome.REGISTERED
        if md5 is not None and known_md5 != md5:
            log.error(
                "%s: %s was recorded with the MD5 %s, and its row in %s has %s. The row is left as it is, with which "
                "the file isn't copied, or not as it was recorded; `archiver verify` says which of them is right",
                *(event.stream, path, md5, self._database.path, known_md5),
            )
            return RegistrationOutcome.DIFFERENT
        return RegistrationOutcome.KNOWN

    def _md5(
        self, event: FileFinished | FileSalvaged, md5: str | None, abort: threading.Event
    ) -> str | RegistrationOutcome:
        """A file's MD5: `md5`, if that was taken while it was written, else that of its bytes; or why it isn't to be
        registered. Raises OSError, SinkError."""
        parent, _, name = event.path.rpartition("/")
        try:
            with self._location.data(parent) as directory:
                if directory.stat(name) is None:
                    return self._gone(event)
                if md5 is not None:
                    return md5
                digest, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
                for block in directory.blocks(name):
                    if abort.is_set():
                        raise SinkError(f"{event.path}: stopped while its MD5 was taken")
                    digest.update(block)
                    sha256.update(block)
        except FileNotFoundError:
            return self._gone(event)
        if sha256.hexdigest() != event.sha256:
            log.error(
                "%s: %s isn't registered for transfer: its bytes aren't those that were recorded. Run `archiver "
                "repair`, then register it by socs' command `suprsync`",
                *(event.stream, self._location.data_dir / event.path),
            )
            return RegistrationOutcome.DIFFERENT
        return digest.hexdigest()

    def _gone(self, event: FileFinished | FileSalvaged) -> RegistrationOutcome:
        with self._location.data(make=True):
            pass  # it raises OSError if it is an empty mount point: of what isn't mounted nothing is known
        log.warning("%s: %s isn't there any more: not registered for transfer", event.stream, event.path)
        return RegistrationOutcome.GONE
