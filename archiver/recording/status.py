"""The status of a running archive, as seen by its own process; `archiver status` shows it from outside."""

from collections.abc import Iterator
from dataclasses import dataclass

from archiver.recording.finalizer_status import FinalizeStatus
from archiver.segments.open_segment import OpenFileStatus
from g3stream.contract.topic_settings import Difference, Severity, timestamps_replaced
from g3stream.contract.topics import frames_topic
from g3stream.host.activity import HANGING_AFTER_SECONDS, Hang
from g3stream.host.durations import format_duration
from g3stream.service.histogram import LatencyCounts

LATE_SECONDS = 30.0
"""An archiver that is further behind than this is a problem."""

UNCOMMITTED_SECONDS = 15.0
"""Normally it is a second or two; 15 while one of three brokers dies, with Kafka's default settings."""
_RECOVERING_SECONDS = 5.0
"""Nearly always a stream is recovered in less than one."""


@dataclass(frozen=True, slots=True)
class ConsumedStatus:
    """What a stream's recorder has consumed. Counts are since the stream was assigned."""

    next_offset: int | None
    """Of the next record to be recorded; None: not known."""
    end_offset: int | None
    """After the topic's last record, as last reported by Kafka; None: not known."""
    time_ms: int
    """Of the last record consumed, ms since the epoch; 0 if there was none."""
    losses: int = 0
    """How often records were lost."""
    lost_records: int = 0
    """Records known to be lost."""
    duplicates: int = 0
    """Records that were dropped as duplicates."""
    interleaved_producers: int = 0
    """How often records of two ingests alternated."""
    delivery_faults: int = 0
    """How often Kafka's client delivered another record than the next one, which was fetched again."""
    quarantined: int = 0
    """Records that were left out, as an operator has quarantined them."""
    times_replaced: bool = False
    """Whether the last record has Kafka's time, not that of its receipt."""

    @property
    def lag(self) -> int:
        """Records in the topic that aren't recorded yet; 0 if not known."""
        if self.end_offset is None or self.next_offset is None:
            return 0
        return max(0, self.end_offset - self.next_offset)

    def lag_s(self, now: float) -> float:
        """Age of the last record consumed, s, if more are in the topic. now: s since the epoch."""
        return round(max(0.0, now - self.time_ms / 1000), 3) if self.lag and self.time_ms else 0.0


@dataclass(frozen=True, slots=True)
class RecordedStatus:
    """The data frames of a stream that are durable and committed, since it was assigned."""

    frames: int
    bytes: int
    latency: LatencyCounts
    """From ingest's receipt on."""
    repeated_frames: int = 0
    """Frames that were left out, as their sender sent them again; with names by session."""


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The status of a stream's recorder."""

    stream: str
    consumed: ConsumedStatus
    recorded: RecordedStatus
    file: OpenFileStatus | None
    committed_offset: int | None
    """Up to this, everything is durable and committed; None: not known."""
    error: str | None = None
    """Why it can't write now."""
    halted: str | None = None
    """Why it has stopped, until an operator acts."""
    recovering_s: float | None = None
    """Duration so far of the recovery; None once it is done."""
    resume_error: str | None = None
    """Why Kafka doesn't deliver the stream."""
    uncommitted_s: float = 0.0
    """Age of the oldest uncommitted record."""
    commit_error: str | None = None
    """Why the last commit failed, if it did."""
    syncing_s: float = 0.0
    """Duration so far of the present sync of its file."""
    finalizing: FinalizeStatus | None = None
    """Of the file that is being finished."""

    def problems(self, now: float, *, kafka_reported: bool = False) -> Iterator[str]:
        """Yield what is wrong, in words; of a fault with several effects, only the cause.

        now: s since the epoch.
        kafka_reported: whether a problem of Kafka, or of all streams, is reported elsewhere.
        """
        finishing = self.finalizing.problem(kafka_reported=kafka_reported) if self.finalizing else None
        if self.halted:
            yield f"{self.stream}: stopped {self.halted}"
        if self.error:
            yield f"{self.stream}: can't write: {self.error}"
        elif self.recovering_s and self.recovering_s > _RECOVERING_SECONDS:
            why = "its open file is being copied or salvaged, or g3.files searched"
            yield f"{self.stream}: not recorded for {self.recovering_s:.0f} s: {why}"
        elif self.finalizing:
            if finishing:
                yield f"{self.stream}: {finishing}"
        elif self.uncommitted_s > UNCOMMITTED_SECONDS and not (
            kafka_reported or self.syncing_s > HANGING_AFTER_SECONDS
        ):
            why = self.commit_error or "Kafka doesn't answer its commits"
            yield f"{self.stream}: records of {self.uncommitted_s:.0f} s ago aren't committed: {why}"
        if self.consumed.times_replaced:
            yield f"{self.stream}: {timestamps_replaced(frames_topic(self.stream))}"
        if self.resume_error:
            yield f"{self.stream}: Kafka doesn't deliver it: {self.resume_error}"
        # The cause is reported already: that it is behind is an effect.
        waits = self.halted or self.error or finishing or (self.finalizing and self.finalizing.hangs)
        if (lag := self.consumed.lag_s(now)) > LATE_SECONDS and not waits:
            yield f"{self.stream}: {format_duration(round(lag * 1000))} behind"


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """The status of an archive that is being recorded."""

    streams: tuple[RecorderStatus, ...]
    kafka_error: str | None
    """Kafka's last error; None once it answers again."""
    turn_s: float
    """Duration so far of the loop's present turn."""
    commit_latency: LatencyCounts
    """Of commit requests, each for all streams."""
    sync_latency: LatencyCounts
    """Of syncs of open files."""
    unpublished: str | None = None
    """Why events can't be published on g3.files."""
    throttled: str | None = None
    """The problem with Kafka's quotas; None if it doesn't throttle."""
    throttled_s: float = 0.0
    """For how long Kafka has throttled, in all."""
    topic_differences: tuple[Difference, ...] = ()
    """Wrong settings of the topics that are used."""
    commit_error: str | None = None
    """Why Kafka refuses commits, until an operator acts."""
    hanging_write: Hang | None = None
    """A write that hangs, and that the loop waits for."""
    identify_error: str | None = None
    """Why it can't begin: the directory can't store a new archive's identity."""

    def problems(self, now: float) -> Iterator[str]:
        """Yield what is wrong, in words; of a fault with several effects, only the cause. now: s since the epoch."""
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
        for recorder in self.streams:
            yield from recorder.problems(now, kafka_reported=bool(kafka or loop))

    def _kafka_problem(self) -> str | None:
        """Return what is wrong with Kafka, for all streams."""
        if self.throttled:
            return self.throttled
        if self.kafka_error:
            return f"Kafka: {self.kafka_error}"
        if self.commit_error:
            return f"Kafka refuses commits: {self.commit_error}"
        if self.unpublished:
            return (
                f"losses and finished files can't be published on g3.files, so their streams wait: {self.unpublished}"
            )
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
