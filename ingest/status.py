"""The status of a stream, as metrics, /healthz and the OCS agents report it."""

from collections.abc import Iterator
from dataclasses import dataclass

from g3stream.contract.topic_settings import Difference, Severity
from g3stream.host.activity import Hang
from g3stream.service.histogram import LatencyCounts

LATE_SECONDS = 30.0
"""A record that Kafka hasn't acknowledged this long after its receipt is a problem, whatever the reason."""


@dataclass(slots=True)
class ReceiveStatus:
    """What was received since ingest was started. Times are in ms since the epoch, UTC.

    The stream keeps it up to date, and gives copies of it to others.
    """

    source: str
    """The endpoint that its frames come from."""
    since_ms: int
    """When the connection was made or closed; at first, when the stream was started."""
    peer: str | None = None
    """The address of the connected sender; None if none is connected."""
    disconnect_reason: str | None = None
    """Why the last connection was closed; None if none was."""
    acquiring: bool = False
    """Whether START was received, and since then neither END nor a disconnection."""
    connections: int = 0
    """Connections that were made."""
    frames: int = 0
    """Data frames received, complete and with a valid checksum."""
    bytes: int = 0
    """Size of these frames."""
    last_frame_ms: int | None = None
    """When the last of these frames was received."""
    rejected: int = 0
    """Frames that can't be trusted."""
    bad_ids: int = 0
    """Frames with a sostream_id that is no valid stream name."""
    backpressure_events: int = 0
    """How often reading had to stop, as the spool was full or couldn't be written."""


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """What waits for Kafka."""

    bytes: int
    """Size of the records that Kafka hasn't acknowledged."""
    full: bool
    """Whether reading waits for space in the spool."""
    limit_bytes: int
    """Size at which reading stops."""
    unreadable_batches: int
    """Batches of records that were given up as damaged."""


@dataclass(frozen=True, slots=True)
class PublishStatus:
    """What Kafka has acknowledged, and why it doesn't acknowledge the rest."""

    acknowledged_offset: int | None
    """The offset of the last record that Kafka has acknowledged, in the stream's topic."""
    oldest_unacked_ms: int | None
    """When the first record that Kafka hasn't acknowledged was received, ms since the epoch; None if unknown."""
    latency: LatencyCounts
    """From receipt to acknowledgement, of the records that Kafka has acknowledged."""
    degraded_reason: str | None = None
    """Why Kafka doesn't accept records, or rejected frames, now; None if it does."""
    throttled_reason: str | None = None
    """Which quota of Kafka slows it down; None if none does."""
    throttled_s: float = 0.0
    """For how long quotas have slowed it down, in total."""
    topics: tuple[Difference, ...] = ()
    """How its topics differ from what they should be, as of the last check."""


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """A running stream at one moment."""

    stream: str
    received: ReceiveStatus
    spool: SpoolStatus
    published: PublishStatus
    degraded_reason: str | None = None
    """Why it waits for Kafka or for its disk; None if it doesn't."""
    hang: Hang | None = None
    """The disk operation that hangs; None if none does."""

    def oldest_unacked_age_s(self, now_s: float) -> float:
        """Age in s of the oldest record that Kafka hasn't acknowledged; 0 if none. now_s: s since the epoch."""
        oldest = self.published.oldest_unacked_ms if self.spool.bytes else None
        return max(0.0, now_s - oldest / 1000) if oldest is not None else 0.0

    def problems(self, now_s: float) -> Iterator[str]:
        """What is wrong, in words. Of one fault with several effects, only the cause. now_s: s since the epoch."""
        if self.hang:
            yield f"the spool's disk doesn't answer: {self.hang.what} has taken {self.hang.duration_s:.0f} s"
        elif self.degraded_reason:
            yield self.degraded_reason
        elif self.published.throttled_reason:
            yield self.published.throttled_reason
        elif (age := self.oldest_unacked_age_s(now_s)) > LATE_SECONDS:
            waiting = f"{self.spool.bytes / 1e6:.1f} MB wait in the spool"
            yield f"Kafka hasn't acknowledged records received {age:.0f} s ago; {waiting}"
        for difference in self.published.topics:
            if difference.severity is not Severity.REPORT and str(difference) not in (self.degraded_reason or ""):
                yield str(difference)
        if not self.received.peer:
            reason = self.received.disconnect_reason
            yield f"no connection to {self.received.source}" + (f" (closed: {reason})" if reason else "")


@dataclass(frozen=True, slots=True)
class StoppedStream:
    """A stream that isn't running at the moment, and why."""

    stream: str
    reason: str

    def problems(self, _now_s: float) -> Iterator[str]:
        """What is wrong, in words, as StreamStatus.problems."""
        yield self.reason
