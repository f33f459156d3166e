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
        self._written: list[list[int]] = []  # ms, frames, bytes; since the last mark
        self._marked: list[list[int]] = []  # before, but not durable yet

    def on_write(self, time: int, size: int) -> None:
        """Count a written frame. time: of its receipt, ms since the epoch. size: bytes."""
        written = self._written
        if written and (written[-1][0] == time or len(self._marked) + len(written) >= _MAX_WAITING):
            written[-1][1] += 1
            written[-1][2] += size
        else:
            written.append([time, 1, size])

    def on_left_out(self) -> None:
        """Count a frame that its sender had sent before (segmentation.is_repeated)."""
        self._repeated += 1

    def status(self) -> RecordedStatus:
        """Return the counts. Thread-safe."""
        return RecordedStatus(self._frames, self._bytes, self._latency.counts(), self._repeated)

    def mark(self) -> None:
        """Mark what is written so far, for `on_durable`."""
        self._marked += self._written
        self._written = []

    def on_durable(self, now: int) -> None:
        """Count what was written up to the last mark as durable and committed. now: ms since the epoch."""
        for time, frames, size in self._marked:
            self._frames += frames
            self._bytes += size
            self._latency.observe((now - time) / 1000, frames)
        self._marked = []

    def rollback(self) -> None:
        """Forget what isn't durable: it will be written again."""
        self._written, self._marked = [], []
