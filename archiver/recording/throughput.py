"""What a recording has recorded: how much, and how long it took from ingest's receipt until it was durable."""

from g3stream.service.histogram import LatencyHistogram

_MAX_WAITING = 10_000
"""Frames whose times are remembered one by one: with no commit for hours, all of them would fill the memory."""


class Throughput:
    """Counts the data frames of a stream that are durable and committed, since this archiver took it.

    `latency` is of each of them, from its record's time (when ingest had received it) on; the clocks of the two
    hosts are compared, so it is no better than they agree. `repeated` counts those that were left out, as a sender
    sent them again (segmentation.is_repeated).
    """

    def __init__(self) -> None:
        self.frames = self.bytes = self.repeated = 0
        self.latency = LatencyHistogram()
        self._not_durable: list[list[int]] = []  # ms, frames, bytes; of frames that aren't durable yet
        self._marked_count = 0  # so many of them take no more frames

    def on_write(self, time: int, size: int) -> None:
        """A frame that was received at that time (ms) is written, with so many bytes."""
        waiting = self._not_durable
        if len(waiting) > self._marked_count and (waiting[-1][0] == time or len(waiting) >= _MAX_WAITING):
            waiting[-1][1] += 1
            waiting[-1][2] += size
        else:
            waiting.append([time, 1, size])

    def mark(self) -> int:
        """For `on_durable`: what is written by now."""
        self._marked_count = len(self._not_durable)
        return self._marked_count

    def on_durable(self, mark: int, now: int) -> None:
        """All that was written by then is durable and committed. now: ms."""
        for time, frames, size in self._not_durable[:mark]:
            self.frames += frames
            self.bytes += size
            self.latency.observe((now - time) / 1000, frames)
        del self._not_durable[:mark]
        self._marked_count = max(0, self._marked_count - mark)

    def rollback(self) -> None:
        """What isn't durable will be written anew."""
        self._not_durable.clear()
        self._marked_count = 0
