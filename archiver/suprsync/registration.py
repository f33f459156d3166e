"""SupRsync: implements `--suprsync-db`, the registration of files for transfer by socs' SupRsync agent.

It connects the parts: the sink (sink.py), up to when the archive is final (finalization.py), and the files that say
which timecodes are complete (timecode_files.py). All of it runs beside the recording.
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
"""A file spans 10 minutes. An archive that is further behind waits for an operator."""
OLD_SECONDS = 120.0
"""Kafka is asked every 10 s. An older result means that files finished by then still wait to be registered."""
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
        self._finalization = Finalization(config, archive.group, streams, self._on_found)
        self._database = SupRsyncDatabase(db.absolute(), archive_name)
        self._timecode_files = TimecodeFiles(archive.location, self._database, instance_id)
        self.sink = SupRsyncSink(archive.location, self._database, self._timecode_files.is_finalized)
        self._num_files = 0
        self._counted_at: int | None = None  # the number of files added when they were counted
        self._publisher: EventPublisher | None = None
        self._published_until: tuple[float, int] | None = None  # when the last event was published, and its time
        self._problem: str | None = None

    @contextmanager
    def running(self, position: Callable[[], int | None]) -> Iterator[None]:
        """Context in which it is determined up to when the archive is final.

        position: returns FollowerStatus.position of the sink's follower. Raises KafkaException if a setting is
        invalid.
        """
        self._publisher = EventPublisher(self._config, lambda _: None)
        with self._finalization.running(position):
            try:
                yield
            finally:
                self.stop()

    def status(self) -> SupRsyncStatus:
        """Return its present status; for any thread."""
        name, registered = self._database.archive_name, self.sink.registered()
        problem = self._finalization.problem or self._problem
        return SupRsyncStatus(name, registered, self._num_files, self._finalization.latest, problem)

    def stop(self) -> None:
        """End waiting for the acknowledgement of events. For any thread."""
        if self._publisher:
            self._publisher.shut_down()

    def _on_found(self, found: FinalizedUntil) -> None:
        """Handle a new result; called in the thread of Finalization."""
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
        """Count the registered files again if some were added: half a second for a million."""
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
        except KafkaException as error:  # the next event replaces it
            log.debug("finalized_until isn't published on g3.files: %s", error)
        else:
            self._published_until = time.monotonic(), found.time_ms
