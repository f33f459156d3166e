"""A stream with frames at a steady rate, and the latency at which each can be read in the archive."""

import threading
import time
from pathlib import Path

from tests.support.processes import SECONDS, RawSender, Recorder, flow, scan

EVERY_SECONDS = 0.1
"""Time between two frames of a stream."""


class Stream:
    """A sender with its frames, and the ingest that receives them."""

    def __init__(self, recorder: Recorder) -> None:
        self.name = recorder.stream
        self.frames: list[bytes] = []
        self.sent: list[tuple[float, int]] = []
        """For each frame, the time at which it was sent, and the total bytes including it."""
        self.seen: list[tuple[float, int]] = []
        """The times at which more bytes became readable in its files and its partial, and how many."""
        self._sender = RawSender()
        self._enough = threading.Event()
        self._sending = threading.Thread(target=self._send, daemon=True)
        self._sending.start()
        recorder.create_topic()
        self.ingest = recorder.ingest(self._sender.port)

    def measure(self, archive: Path) -> None:
        """Measure how many bytes can be read now."""
        partials = (archive / ".archiver" / self.name).glob("*_*")
        sizes: dict[int, int] = {}
        for path in (*archive.glob(f"*/{self.name}/*.g3"), *partials):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue  # a partial that is finished
            sizes[found.st_ino] = found.st_size  # for a moment a file has two names
        readable = sum(sizes.values())
        if readable > self.readable:
            self.seen.append((time.monotonic(), readable))

    @property
    def readable(self) -> int:
        """The number of bytes that can be read."""
        return self.seen[-1][1] if self.seen else 0

    def lateness(self) -> list[tuple[float, float]]:
        """Return, for each readable frame, the time at which it was sent, and its latency, seconds."""
        found, seen = [], iter(list(self.seen))
        at, readable = 0.0, 0
        for sent, end in self.sent:
            if end > self.readable:
                break
            while readable < end:
                at, readable = next(seen)
            found.append((sent, at - sent))
        return found

    def finish(self) -> None:
        """Stop sending frames, and send END."""
        self._enough.set()
        self._sending.join(SECONDS)
        assert not self._sending.is_alive()

    def _send(self) -> None:
        with self._sender, self._sender.accept() as connection:
            while not self._enough.wait(EVERY_SECONDS):
                frame = scan(len(self.frames), 5000)
                self.frames.append(frame)
                self.sent.append((time.monotonic(), len(frame) + (self.sent[-1][1] if self.sent else 0)))
                connection.sendall(frame)
            connection.sendall(flow(2))
            connection.settimeout(None)
            threading.Thread(target=connection.dup().recv, args=[1], daemon=True).start()
