"""How a running archive is at this moment, as its own process sees it; `archiver status` sees it from outside."""

from collections.abc import Iterator
from dataclasses import dataclass

from archiver.recording.commit_lag import LATE_SECONDS as UNCOMMITTED_SECONDS
from archiver.recording.finalizer_status import FinishingStatus
from archiver.segments.open_segment import OpenFile
from g3stream.contract.topic_settings import Difference, Severity, timestamps_replaced
from g3stream.contract.topics import frames_topic
from g3stream.host.activity import HANGING_AFTER_SECONDS, Hang
from g3stream.service.histogram import LatencyCounts

LATE_SECONDS = 30.0
"""An archiver that is so far behind is a problem."""

_TAKING_UP_SECONDS = 5.0
"""Nearly always a stream is taken up in less than one."""


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """How the recording of a stream is. Counts since this archiver took the stream.

    offset: of the next record to be recorded; committed: up to it everything is durable; end: after the topic's last
    record, as far as Kafka has told. None: not known. time: ms, of the last record taken, 0 if none was. frames,
    bytes: data frames that are durable and committed; latency: of these, from ingest's receipt on. losses: how often
    records were lost, lost_records: how many are known to be. duplicates: records dropped as such. turns: how often
    two ingests took turns. trouble: why it can't write now; unread: why Kafka doesn't give it on; stopped: why it
    has stopped, for good or until the record at which it stands is in quarantine. taking_up: s, for which it has been
    found out from where to go on; None once it is known.
    uncommitted: s, since which the first record that was taken has not been committed; commit_error: why the last
    commit failed, if it did. syncing: s, for which its file has been made durable. finishing: of the file that ended.
    """

    stream: str
    offset: int | None
    committed: int | None
    end: int | None
    time: int
    frames: int
    bytes: int
    latency: LatencyCounts
    file: OpenFile | None
    losses: int
    lost_records: int
    duplicates: int
    turns: int
    trouble: str | None
    stopped: str | None
    taking_up: float | None = None
    unread: str | None = None
    uncommitted: float = 0.0
    commit_error: str | None = None
    syncing: float = 0.0
    finishing: FinishingStatus | None = None
    misdeliveries: int = 0
    """How often Kafka's client delivered another record than the next one, which was then asked for again."""
    left_out: int = 0
    """Records that an operator has put into quarantine."""

    repeated_frames: int = 0
    """Frames that were recorded before and are left out, as their sender sent them again; with names by session."""

    times_replaced: bool = False
    """Whether the last record taken bears Kafka's time, not that of its receipt."""

    @property
    def lag(self) -> int:
        """How many records aren't recorded yet, as far as is known."""
        return max(0, self.end - self.offset) if self.end is not None and self.offset is not None else 0

    def lag_seconds(self, now: float) -> float:
        """How long ago the last record was taken, if there are others. now: s since the epoch."""
        return round(max(0.0, now - self.time / 1000), 3) if self.lag and self.time else 0.0

    def problems(self, now: float, *, kafka_is_explained: bool = False) -> Iterator[str]:
        """What is wrong, in words; of one fault that has several effects, the cause. now: s since the epoch.
        kafka_is_explained: what is wrong with Kafka, or with all streams, is told elsewhere."""
        finishing = self.finishing.problem(kafka_is_explained=kafka_is_explained) if self.finishing else None
        if self.stopped:
            yield f"{self.stream}: stopped {self.stopped}"
        if self.trouble:
            yield f"{self.stream}: can't write: {self.trouble}"
        elif self.taking_up and self.taking_up > _TAKING_UP_SECONDS:
            why = "its open file is copied or saved, or g3.files is looked through"
            yield f"{self.stream}: not recorded for {self.taking_up:.0f} s: {why}"
        elif self.finishing:
            if finishing:
                yield f"{self.stream}: {finishing}"
        elif self.uncommitted > UNCOMMITTED_SECONDS and not (
            kafka_is_explained or self.syncing > HANGING_AFTER_SECONDS
        ):
            why = self.commit_error or "Kafka doesn't answer its commits"
            yield f"{self.stream}: what came {self.uncommitted:.0f} s ago isn't committed: {why}"
        if self.times_replaced:
            yield f"{self.stream}: {timestamps_replaced(frames_topic(self.stream))}"
        if self.unread:
            yield f"{self.stream}: Kafka doesn't give it on: {self.unread}"
        # What it waits for has been said: that it is behind is an effect.
        waits = self.stopped or self.trouble or finishing or (self.finishing and self.finishing.hangs)
        if (lag := self.lag_seconds(now)) > LATE_SECONDS and not waits:
            yield f"{self.stream}: {lag:.0f} s behind"


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """How an archive is. trouble: of Kafka, as last heard; None once it answers. untold: why g3.files doesn't take
    what is to be told. turning: s, for which its loop has been at what it does now. commits: how long they took, of
    all streams together; syncs: of each open file. throttled: what is to be said of Kafka's quotas, None if it
    doesn't throttle; throttled_seconds: for how long it has, in all. topics: what isn't right of those that are
    used. refused: why Kafka refuses commits, until somebody mends that. writing: a write that its loop waits for, if
    that hangs. unidentified: why it can't begin, if its directory can't take a new archive's identity."""

    streams: tuple[RecordingStatus, ...]
    trouble: str | None
    turning: float
    commits: LatencyCounts
    syncs: LatencyCounts
    untold: str | None = None
    throttled: str | None = None
    throttled_seconds: float = 0.0
    topics: tuple[Difference, ...] = ()
    refused: str | None = None
    writing: Hang | None = None
    unidentified: str | None = None

    def problems(self, now: float) -> Iterator[str]:
        """What is wrong, in words; of one fault that has several effects, the cause. now: s since the epoch."""
        if self.unidentified:
            yield f"nothing is recorded yet: {self.unidentified}"
            return
        if kafka := self._of_kafka():
            yield kafka
        loop = self._of_the_loop() if not kafka or self.writing else None
        if loop:
            yield loop
        yield from self._of_disks()
        for difference in self.topics:
            if difference.severity is not Severity.REPORT:
                yield str(difference)
        for recording in self.streams:
            yield from recording.problems(now, kafka_is_explained=bool(kafka or loop))

    def _of_kafka(self) -> str | None:
        """What is wrong with Kafka, for all streams."""
        if self.throttled:
            return self.throttled
        if self.trouble:
            return f"Kafka: {self.trouble}"
        if self.refused:
            return f"Kafka refuses commits: {self.refused}"
        if self.untold:
            return f"losses and finished files can't be told on g3.files, so their streams wait: {self.untold}"
        return None

    def _of_the_loop(self) -> str | None:
        if self.writing:
            return f"the data disk doesn't answer: {self.writing.what} has taken {self.writing.duration_s:.0f} s"
        if self.turning > HANGING_AFTER_SECONDS:
            return f"nothing has been recorded for {self.turning:.0f} s: it waits for Kafka or for a disk"
        return None

    def _of_disks(self) -> Iterator[str]:
        hanging = [(r.syncing, r.stream) for r in self.streams if r.syncing > HANGING_AFTER_SECONDS]
        if hanging:
            longest, _ = max(hanging)
            streams = ", ".join(stream for _, stream in hanging)
            yield f"the data disk doesn't answer: a sync has taken {longest:.0f} s, of {streams}"
        finishing = [(r.finishing, r.stream) for r in self.streams if r.finishing and r.finishing.hangs]
        if finishing:
            first, _ = max(finishing, key=lambda found: found[0].step_seconds)
            streams = ", ".join(stream for _, stream in finishing)
            what = f"finishing a file ({first.step}) has taken {first.step_seconds:.0f} s"
            yield f"the data disk doesn't answer: {what}, of {streams}"
