"""Non-blocking log writer: a thread of its own writes the lines to a file descriptor.

The reader of stderr may stop reading: a pager, a stuck log driver, a full disk. A write to the pipe would then block
the thread that logs, which holds the log's lock, and so all threads. Here lines wait in a queue, bounded in bytes and
in lines. When it is full, the oldest are dropped: an operator who looks again needs most what is wrong now, and the
pipe still holds the first lines about the fault. A line in place of the dropped ones says how many they were.
"""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_BYTES = 1 << 20
MAX_LINES = 10_000
MAX_LINE_BYTES = 1 << 16
STUCK_SECONDS = 30.0
"""A line that has waited for this long is a problem; journald needs a few seconds when it is restarted."""
_RETRY_SECONDS = 1.0
_STUCK_END_TIMEOUT_SECONDS = 1.0
"""The longest that the end of the program waits for a reader that doesn't read."""
_END_TIMEOUT_SECONDS = 5.0
"""The longest that the end of the program waits for a slow reader."""


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The state of the log."""

    dropped_lines: int = 0
    problem: str | None = None
    """For how long nothing could be written, and why, in words; None if the log is healthy."""


class LogWriter:
    """A writer of whole lines to a descriptor, in order. For any thread.

    format_dropped: returns the line that stands for a number of dropped lines. A failed write is retried each second.
    """

    def __init__(self, fd: int, format_dropped: Callable[[int], bytes]) -> None:
        self._fd = fd
        self._format_dropped = format_dropped
        # Never held during a write. Reentrant: an object that is deleted during `put` may print a line too.
        self._changed = threading.Condition(threading.RLock())
        self._dropped = 0
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped_here = 0  # between the last written line and the first of _lines
        self._written = 0
        self._writing_since: float | None = None  # None: no line is being written
        self._error: str | None = None
        self._ending = threading.Event()
        self._ended = False
        threading.Thread(target=self._run, name="log writer", daemon=True).start()

    def put(self, line: bytes) -> None:
        """Queue a line, which includes its line end; ignored after `end`."""
        if self._ended:  # the interpreter may have ended the thread, even while it held the lock
            return
        if len(line) > MAX_LINE_BYTES:
            line = line[:MAX_LINE_BYTES] + b" ... (cut)\n"
        with self._changed:
            self._lines.append(line)
            self._bytes += len(line)
            while self._bytes > MAX_BYTES or len(self._lines) > MAX_LINES:
                self._bytes -= len(self._lines.popleft())
                self._dropped_here += 1
                self._dropped += 1
            if self._writing_since is None:
                self._changed.notify_all()

    def status(self) -> LogStatus:
        """Return the present state."""
        since, error = self._writing_since, self._error
        if since is None or (waited := time.monotonic() - since) < STUCK_SECONDS:
            return LogStatus(self._dropped)
        why = f"{error or 'stderr is not being read'} ({self._dropped} lines dropped)"
        return LogStatus(self._dropped, f"the log hasn't been written for {waited:.0f} s: {why}")

    def end(self) -> bool:
        """Wait until all lines are written, or the timeout of a slow or stuck reader; return whether all are."""
        give_up_at = time.monotonic() + _END_TIMEOUT_SECONDS
        self._ending.set()
        with self._changed:
            while self._lines or self._writing_since is not None:
                written, now = self._written, time.monotonic()
                if now >= give_up_at:
                    break
                self._changed.wait(min(_STUCK_END_TIMEOUT_SECONDS, give_up_at - now))
                if self._written == written:
                    break
            self._ended = True
            return not self._lines and self._writing_since is None

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing_since = None
                while not self._lines:
                    self._changed.notify_all()  # for `end`
                    self._changed.wait()
                self._writing_since = time.monotonic()
                if self._dropped_here:
                    line, self._dropped_here = self._format_dropped(self._dropped_here), 0
                else:
                    line = self._lines.popleft()
                    self._bytes -= len(line)
            self._write(line)
            self._written += 1

    def _write(self, line: bytes) -> None:
        """Write a whole line, however long it takes; at the program's end only until an error."""
        rest = memoryview(line)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
                self._error = None
            except BlockingIOError:  # another process that shares the descriptor has made it non-blocking
                select.select((), (self._fd,), (), _RETRY_SECONDS)
            except OSError as error:
                self._error = f"stderr: {error.strerror}"
                if self._ending.wait(_RETRY_SECONDS):
                    return
