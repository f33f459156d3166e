"""Throughput of a stream: frames recorded, and their latency from ingest's receipt until they are durable."""

from archiver.recording.status import RecordedStatus
from g3stream.service.histogram import LatencyHistogram

_MAX_WAITING = 10_000
"""Frames whose times are kept one by one; without a commit for hours, all of them would fill the memory."""


class Throughput:
    """Counts the data frames of a stream that are durable and committed, since it was assigned."""

    def __init__(self) -> None:
        self._frames = self._bytes = 0
        self._repeated = 0
        # Of each frame, from its record's time (of receipt by ingest). It compares the clocks of two hosts, so it is
        # only as accurate as they agree.
        self._latency = LatencyHistogram()
        self._not_durable: list[list[int]] = []  # ms, frames, bytes; of frames that aren't durable yet
        self._marked_count = 0  # the first entries, which take no more frames

    def on_write(self, time: int, size: int) -> None:
        """Count a written frame. time: of its receipt, ms since the epoch. size: bytes."""
        waiting = self._not_durable
        if len(waiting) > self._marked_count and (waiting[-1][0] == time or len(waiting) >= _MAX_WAITING):
            waiting[-1][1] += 1
            waiting[-1][2] += size
        else:
            waiting.append([time, 1, size])

    def on_left_out(self) -> None:
        """Count a frame that its sender had sent before (segmentation.is_repeated)."""
        self._repeated += 1

    def status(self) -> RecordedStatus:
        """Return the counts. Thread-safe."""
        return RecordedStatus(self._frames, self._bytes, self._latency.counts(), self._repeated)

    def mark(self) -> int:
        """Mark what is written so far, for `on_durable`."""
        self._marked_count = len(self._not_durable)
        return self._marked_count

    def on_durable(self, mark: int, now: int) -> None:
        """Count what was written up to that mark as durable and committed. now: ms since the epoch."""
        for time, frames, size in self._not_durable[:mark]:
            self._frames += frames
            self._bytes += size
            self._latency.observe((now - time) / 1000, frames)
        del self._not_durable[:mark]
        self._marked_count = max(0, self._marked_count - mark)

    def rollback(self) -> None:
        """Forget what isn't durable: it will be written again."""
        self._not_durable.clear()
        self._marked_count = 0
