"""How a running archive is at this moment, as its own process sees it; `archiver status` sees it from outside."""

from collections.abc import Iterator
from dataclasses import dataclass

from archiver.recording.commit_lag import LATE_SECONDS as UNCOMMITTED_SECONDS
from archiver.recording.finalizer_status import FinalizeStatus
from archiver.segments.open_segment import OpenFileStatus
from g3stream.contract.topic_settings import Difference, Severity, timestamps_replaced
from g3stream.contract.topics import frames_topic
from g3stream.host.activity import HANGING_AFTER_SECONDS, Hang
from g3stream.service.histogram import LatencyCounts

LATE_SECONDS = 30.0
"""An archiver that is so far behind is a problem."""

_RECOVERING_SECONDS = 5.0
"""Nearly always a stream is taken up in less than one."""


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """How the recording of a stream is. Counts since this archiver took the stream.

    next_offset: of the next record to be recorded; committed_offset: up to it everything is durable; end_offset:
    after the topic's last record, as far as Kafka has told. None: not known. time_ms: of the last record taken, 0
    if none was. frames, bytes: data frames that are durable and committed; latency: of these, from ingest's receipt
    on. losses: how often records were lost, lost_records: how many are known to be. duplicates: records dropped as
    such. interleaved_producers: how often two ingests took turns. error: why it can't write now; resume_error: why
    Kafka doesn't give it on; halted: why it has stopped, for good or until the record at which it stands is in
    quarantine. recovering_s: for which it has been found out from where to go on; None once it is known.
    uncommitted_s: since which the first record that was taken has not been committed; commit_error: why the last
    commit failed, if it did. syncing_s: for which its file has been made durable. finalizing: of the file that
    ended.
    """

    stream: str
    next_offset: int | None
    committed_offset: int | None
    end_offset: int | None
    time_ms: int
    frames: int
    bytes: int
    latency: LatencyCounts
    file: OpenFileStatus | None
    losses: int
    lost_records: int
    duplicates: int
    interleaved_producers: int
    error: str | None
    halted: str | None
    recovering_s: float | None = None
    resume_error: str | None = None
    uncommitted_s: float = 0.0
    commit_error: str | None = None
    syncing_s: float = 0.0
    finalizing: FinalizeStatus | None = None
    delivery_faults: int = 0
    """How often Kafka's client delivered another record than the next one, which was then asked for again."""
    quarantined: int = 0
    """Records that an operator has put into quarantine."""

    repeated_frames: int = 0
    """Frames that were recorded before and are left out, as their sender sent them again; with names by session."""

    times_replaced: bool = False
    """Whether the last record taken bears Kafka's time, not that of its receipt."""

    @property
    def lag(self) -> int:
        """How many records aren't recorded yet, as far as is known."""
        return (
            max(0, self.end_offset - self.next_offset)
            if self.end_offset is not None and self.next_offset is not None
            else 0
        )

    def lag_s(self, now: float) -> float:
        """How long ago the last record was taken, if there are others. now: s since the epoch."""
        return round(max(0.0, now - self.time_ms / 1000), 3) if self.lag and self.time_ms else 0.0

    def problems(self, now: float, *, kafka_reported: bool = False) -> Iterator[str]:
        """What is wrong, in words; of one fault that has several effects, the cause. now: s since the epoch.
        kafka_reported: what is wrong with Kafka, or with all streams, is told elsewhere."""
        finishing = self.finalizing.problem(kafka_reported=kafka_reported) if self.finalizing else None
        if self.halted:
            yield f"{self.stream}: stopped {self.halted}"
        if self.error:
            yield f"{self.stream}: can't write: {self.error}"
        elif self.recovering_s and self.recovering_s > _RECOVERING_SECONDS:
            why = "its open file is copied or saved, or g3.files is looked through"
            yield f"{self.stream}: not recorded for {self.recovering_s:.0f} s: {why}"
        elif self.finalizing:
            if finishing:
                yield f"{self.stream}: {finishing}"
        elif self.uncommitted_s > UNCOMMITTED_SECONDS and not (
            kafka_reported or self.syncing_s > HANGING_AFTER_SECONDS
        ):
            why = self.commit_error or "Kafka doesn't answer its commits"
            yield f"{self.stream}: what came {self.uncommitted_s:.0f} s ago isn't committed: {why}"
        if self.times_replaced:
            yield f"{self.stream}: {timestamps_replaced(frames_topic(self.stream))}"
        if self.resume_error:
            yield f"{self.stream}: Kafka doesn't give it on: {self.resume_error}"
        # What it waits for has been said: that it is behind is an effect.
        waits = self.halted or self.error or finishing or (self.finalizing and self.finalizing.hangs)
        if (lag := self.lag_s(now)) > LATE_SECONDS and not waits:
            yield f"{self.stream}: {lag:.0f} s behind"


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """How an archive is. kafka_error: of Kafka, as last heard; None once it answers. unpublished: why g3.files
    doesn't take what is to be told. turn_s: for which its loop has been at what it does now. commit_latency: how
    long they took, of all streams together; sync_latency: of each open file. throttled: what is to be said of Kafka's
    quotas, None if it doesn't throttle; throttled_s: for how long it has, in all. topic_differences: what isn't right
    of those that are used. commit_error: why Kafka refuses commits, until somebody mends that. hanging_write: a write
    that its loop waits for, if that hangs. identify_error: why it can't begin, if its directory can't take a new
    archive's identity."""

    streams: tuple[RecorderStatus, ...]
    kafka_error: str | None
    turn_s: float
    commit_latency: LatencyCounts
    sync_latency: LatencyCounts
    unpublished: str | None = None
    throttled: str | None = None
    throttled_s: float = 0.0
    topic_differences: tuple[Difference, ...] = ()
    commit_error: str | None = None
    hanging_write: Hang | None = None
    identify_error: str | None = None

    def problems(self, now: float) -> Iterator[str]:
        """What is wrong, in words; of one fault that has several effects, the cause. now: s since the epoch."""
        if self.identify_error:
            yield f"nothing is recorded yet: {self.identify_error}"
            return
        if kafka := self._kafka_problem():
            yield kafka
        loop = self._loop_problem() if not kafka or self.hanging_write else None
        if loop:
            yield loop
        yield from self._disk_problems()
        for difference in self.topic_differences:
            if difference.severity is not Severity.REPORT:
                yield str(difference)
        for recording in self.streams:
            yield from recording.problems(now, kafka_reported=bool(kafka or loop))

    def _kafka_problem(self) -> str | None:
        """What is wrong with Kafka, for all streams."""
        if self.throttled:
            return self.throttled
        if self.kafka_error:
            return f"Kafka: {self.kafka_error}"
        if self.commit_error:
            return f"Kafka refuses commits: {self.commit_error}"
        if self.unpublished:
            return f"losses and finished files can't be told on g3.files, so their streams wait: {self.unpublished}"
        return None

    def _loop_problem(self) -> str | None:
        if self.hanging_write:
            write = self.hanging_write
            return f"the data disk doesn't answer: {write.what} has taken {write.duration_s:.0f} s"
        if self.turn_s > HANGING_AFTER_SECONDS:
            return f"nothing has been recorded for {self.turn_s:.0f} s: it waits for Kafka or for a disk"
        return None

    def _disk_problems(self) -> Iterator[str]:
        hanging = [(r.syncing_s, r.stream) for r in self.streams if r.syncing_s > HANGING_AFTER_SECONDS]
        if hanging:
            longest, _ = max(hanging)
            streams = ", ".join(stream for _, stream in hanging)
            yield f"the data disk doesn't answer: a sync has taken {longest:.0f} s, of {streams}"
        finishing = [(r.finalizing, r.stream) for r in self.streams if r.finalizing and r.finalizing.hangs]
        if finishing:
            first, _ = max(finishing, key=lambda found: found[0].step_s)
            streams = ", ".join(stream for _, stream in finishing)
            what = f"finishing a file ({first.step}) has taken {first.step_s:.0f} s"
            yield f"the data disk doesn't answer: {what}, of {streams}"
