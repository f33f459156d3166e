"""SupRsync: implements `--suprsync-db`, the registration of files for transfer by socs' SupRsync agent.

It connects the parts: the sink (sink.py), up to when the archive is final (finalization.py), and the files that say
which timecodes are complete (timecode_files.py). All of it runs beside the recording.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import CheckpointError
from archiver.core.events import ArchiveFinalized
from archiver.kafka.publication import publish_events
from archiver.suprsync.database import DatabaseError, SupRsyncDatabase
from archiver.suprsync.finalization import read
from archiver.suprsync.finalized_until import FinalizedUntil, Promotion
from archiver.suprsync.sink import Registered, RegistrationOutcome, SupRsyncSink
from archiver.suprsync.timecode_files import TimecodeFiles
from g3stream.host.environment import now_ms
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

LATE_HOURS = 2.0
"""A file spans 10 minutes. An archive that is further behind waits for an operator."""
OLD_SECONDS = 120.0
"""Kafka is asked every 10 s. An older result means that files finished by then still wait to be registered."""
_POLL_S = 1.0
_REQUEST_S = 10.0
_STOP_S = 2.0
EVENT_SECONDS = 600.0
"""The least time between two events `finalized`, as they are kept forever."""


@dataclass(frozen=True, slots=True)
class SupRsyncStatus:
    """The state of the hand-over to SupRsync."""

    archive_name: str
    """SupRsync's --archive-name."""
    registered: Registered
    num_files: int
    """Registered files at the time of `finalized`."""
    finalized: FinalizedUntil | None
    """None if it isn't known yet, or another archiver determines it."""
    problem: str | None
    """Why `finalized` can't be updated, or a timecode's file can't be written; None if all works."""

    def warnings(self, now: float) -> Iterator[str]:
        """Yield warnings for the operator, though recording is healthy. now: s since the epoch."""
        if self.problem:
            yield f"finalized_until: {self.problem}"
        if self.finalized and (hours := (now - self.finalized.time_ms / 1000) / 3600) > LATE_HOURS:
            is_old = now - self.finalized.asked_ms / 1000 > OLD_SECONDS
            why = "files wait to be registered" if is_old else self.finalized.held_by
            yield f"finalized_until: {hours:.1f} h behind: {why}"


class SupRsync:
    """The hand-over to SupRsync: a Follower feeds `sink`, within the context `running`.

    config: librdkafka's settings. streams: those that the archive records, None: all. instance_id: the agent's, in
    the paths of the files that say which timecodes are complete.
    """

    def __init__(
        self,
        archive: ArchiveRoot,
        db: Path,
        archive_name: str,
        streams: Collection[str] | None,
        config: Mapping[str, Any],
        instance_id: str,
    ) -> None:
        self._archive = archive
        self._config = config
        self._read = partial(read, config, archive.group, streams)
        self._database = SupRsyncDatabase(db.absolute(), archive_name)
        self._timecode_files = TimecodeFiles(archive.location, self._database, instance_id)
        self.sink = SupRsyncSink(archive.location, self._database, self._timecode_files.is_finalized)
        self._stopping = threading.Event()
        self._finalized: FinalizedUntil | None = None
        self._problem: str | None = None
        self._throttle = LogThrottle()
        self._counted = (-1, 0)  # the files in the database, after the number of files added when they were counted
        self._published_until: tuple[float, int] | None = None  # when the last event was published, and its time

    @contextmanager
    def running(self, position: Callable[[], int | None]) -> Iterator[None]:
        """Context in which it is determined up to when the archive is final, in a thread of its own.

        position: returns FollowerStatus.position of the sink's follower: only the archiver that hands the archive's
        events over does it.
        """
        thread = threading.Thread(target=self._run, args=(position,), name="finalization", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stop()
            thread.join(_STOP_S)

    def status(self) -> SupRsyncStatus:
        """Return its present status; for any thread."""
        name, registered = self._database.archive_name, self.sink.registered()
        return SupRsyncStatus(name, registered, self._counted[1], self._finalized, self._problem)

    def stop(self) -> None:
        """End the thread. For any thread."""
        self._stopping.set()

    def _run(self, position_of: Callable[[], int | None]) -> None:
        promotion = Promotion()
        ask_at_s = 0.0
        while not self._stopping.is_set():
            try:
                if position_of() is not None and promotion.wants_another and time.monotonic() >= ask_at_s:
                    ask_at_s = time.monotonic() + _REQUEST_S
                    promotion.add(*self._read(now_ms()))
                position = position_of()
                if position is None:
                    self._finalized = self._problem = None  # reported by the archiver that hands over now
                if found := promotion.reached(position):
                    self._publish(found)
                    self._finalized = found
                    self._count_files()
                    self._timecode_files.write(found, time.time())
                    self._problem = None
                    if self._throttle.reset():
                        log.info("finalized_until is updated again")
            except Exception as error:  # noqa: BLE001 - whatever it is, this must continue, as recording does
                self._on_error(error)
            self._stopping.wait(_POLL_S)

    def _on_error(self, error: Exception) -> None:
        is_expected = isinstance(error, KafkaException | CheckpointError | DatabaseError | OSError)
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        self._problem = text if is_expected else f"{type(error).__name__}: {text}"
        if self._throttle.due(time.monotonic()):
            log.warning(
                *("finalized_until, or the file of a timecode, can't be updated: %s; still trying", self._problem),
                exc_info=None if is_expected else error,
            )

    def _count_files(self) -> None:
        """Count the registered files again if some were added: half a second for a million."""
        added = self.sink.registered().counts[RegistrationOutcome.REGISTERED]
        if self._counted[0] != added:
            self._counted = added, self._database.count()

    def _publish(self, found: FinalizedUntil) -> None:
        if self._published_until and (
            self._published_until[1] == found.time_ms or time.monotonic() - self._published_until[0] < EVENT_SECONDS
        ):
            return
        event = ArchiveFinalized(self._archive.group, found.time_ms, found.held_by, self._archive.host)
        try:
            publish_events(self._config, [event], self._stopping)
        except KafkaException as error:  # the next event replaces it
            log.debug("finalized_until isn't published on g3.files: %s", error)
        else:
            self._published_until = time.monotonic(), found.time_ms
