"""Stop signals, converted to a call on a thread of its own: no signal handler takes a lock.

A Python signal handler runs in the main thread between any two bytecodes, whatever locks the thread holds. So an
`Event.set()` in a handler that interrupts another `set()`, or the `wait()`, of that event deadlocks; 7 of 12 programs
hung like this after a burst of signals. Logging has locks too.

Therefore these handlers do nothing. The interpreter's own handler, in C, writes the number of each signal to a pipe
(signal.set_wakeup_fd), and a thread that reads the pipe makes the call. Blocking the signals and `sigwait` would work
as well, but every subprocess would inherit the mask.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Self

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """A context manager, for the main thread, in which SIGTERM and SIGINT make the call given to `on_stop`.

    After it both signals are ignored. Otherwise the interpreter, which restores the default handlers when it ends,
    would give a program that stopped in order the exit code of a killed one, at a second signal.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._received = False
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._write_fd, False)
        self._thread = threading.Thread(target=self._read, name="signals", daemon=True)

    def on_stop(self, stop: Callable[[], None]) -> None:
        """Call `stop` at each stop signal, on the signal thread; at once, on this one, if there was one already."""
        with self._lock:
            self._stop = stop
            received = self._received
        if received:
            stop()

    def __enter__(self) -> Self:
        self._thread.start()
        # A full pipe has unread signals in it: one more makes no difference.
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, _do_nothing)
        return self

    def __exit__(self, *_: object) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        os.close(self._write_fd)
        self._thread.join()
        os.close(self._read_fd)

    def _read(self) -> None:
        while numbers := os.read(self._read_fd, 4096):
            if not any(number in STOP_SIGNALS for number in numbers):
                continue  # a signal with another handler
            with self._lock:
                self._received = True
                stop = self._stop
            if stop:
                stop()


def _do_nothing(*_: object) -> None:
    """Handle a signal: without a handler in Python, nothing would be written to the pipe."""
