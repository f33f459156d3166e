"""What `--suprsync-db` brings: files are registered for transfer by socs' SupRsync agent; how far that is, is shown.

The one place where its parts meet: the sink (sink.py), up to when the archive is final (finalization.py),
and the files that say which timecodes are complete (timecode_files.py). All of it beside the recording.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from archiver.archive.root import ArchiveRoot
from archiver.core.events import ArchiveFinalized
from archiver.kafka.event_publisher import EventPublisher
from archiver.suprsync.database import DatabaseError, SupRsyncDatabase
from archiver.suprsync.finalization import Finalization
from archiver.suprsync.finalized_until import FinalizedUntil
from archiver.suprsync.sink import Registered, RegistrationOutcome, SupRsyncSink
from archiver.suprsync.timecode_files import TimecodeFiles

log = logging.getLogger(__name__)

LATE_HOURS = 2.0
"""A file spans 10 minutes. What is further behind waits for something that doesn't come by itself."""
OLD_SECONDS = 120.0
"""Kafka is asked each 10 s. What it said longer ago still waits until what was finished by then is registered."""
EVENT_SECONDS = 600.0
"""Events of `finalized` are kept forever: so many seconds lie between two, at least."""


@dataclass(frozen=True, slots=True)
class SupRsyncStatus:
    """How the hand-over to SupRsync is. archive_name: of SupRsync. finalized: None if it isn't known yet, or another
    archiver finds it out; num_files: that were registered then. problem: why that isn't brought up to date, or a
    timecode's file can't be written."""

    archive_name: str
    registered: Registered
    num_files: int
    finalized: FinalizedUntil | None
    problem: str | None

    def warnings(self, now: float) -> Iterator[str]:
        """What an operator should know, though recording is well. now: s since the epoch."""
        if self.problem:
            yield f"finalized_until: {self.problem}"
        if self.finalized and (hours := (now - self.finalized.time_ms / 1000) / 3600) > LATE_HOURS:
            is_old = now - self.finalized.asked_ms / 1000 > OLD_SECONDS
            why = "files wait to be registered" if is_old else self.finalized.held_by
            yield f"finalized_until: {hours:.1f} h behind: {why}"


class SupRsync:
    """`sink` is for a Follower to feed; `running`, for the time that it does.

    config: librdkafka's settings. streams: those that the archive has, None: all. instance_id: in whose name
    timecodes are said to be complete.
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
        self._streams = streams
        self._database = SupRsyncDatabase(db.absolute(), archive_name)
        self._timecode_files = TimecodeFiles(archive.location, self._database, instance_id)
        self.sink = SupRsyncSink(archive.location, self._database, self._timecode_files.is_finalized)
        self._num_files = 0
        self._counted_at: int | None = None  # how many were added by then
        self._publisher: EventPublisher | None = None
        self._finalization: Finalization | None = None
        self._published_until: tuple[float, int] | None = None  # when the last event was published, and its time
        self._problem: str | None = None

    @contextmanager
    def running(self, position: Callable[[], int | None]) -> Iterator[None]:
        """Find out up to when the archive is final, meanwhile. position: of the sink's follower (FollowerStatus).
        Raises KafkaException on a setting that librdkafka doesn't take."""
        self._publisher = EventPublisher(self._config, lambda _: None)
        with Finalization(
            self._config, self._archive.group, self._streams, position, self._on_found
        ) as self._finalization:
            try:
                yield
            finally:
                self.stop()

    def status(self) -> SupRsyncStatus:
        """How it is; for any thread."""
        finalization = self._finalization
        latest = finalization.latest if finalization else None
        problem = finalization.problem if finalization else None
        name, registered = self._database.archive_name, self.sink.registered()
        return SupRsyncStatus(name, registered, self._num_files, latest, problem or self._problem)

    def stop(self) -> None:
        """Nobody is to wait any longer for an event to be published. For any thread."""
        if self._publisher:
            self._publisher.shut_down()

    def _on_found(self, found: FinalizedUntil) -> None:
        """In the thread of Finalization, each time that there is something new."""
        self._publish(found)
        try:
            self._count_files()
            self._timecode_files.write(found, time.time())
        except (DatabaseError, OSError) as error:
            if self._problem is None:
                log.warning(
                    "the files that say which timecodes are complete can't be written: %s; trying again", error
                )
            self._problem = str(error)
        else:
            self._problem = None

    def _count_files(self) -> None:
        """Once more if some have been added: of a million it takes half a second."""
        added = self.sink.registered().counts[RegistrationOutcome.REGISTERED]
        if self._counted_at != added:
            self._num_files = self._database.count()
            self._counted_at = added

    def _publish(self, found: FinalizedUntil) -> None:
        assert self._publisher
        self._publisher.poll()
        if self._published_until and (
            self._published_until[1] == found.time_ms or time.monotonic() - self._published_until[0] < EVENT_SECONDS
        ):
            return
        event = ArchiveFinalized(self._archive.group, found.time_ms, found.held_by, self._archive.host)
        try:
            self._publisher.publish_uncounted(event)
        except KafkaException as error:  # the next one says more
            log.debug("finalized_until isn't published on g3.files: %s", error)
        else:
            self._published_until = time.monotonic(), found.time_ms
