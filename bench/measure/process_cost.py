"""A process whose anonymous memory and CPU time are measured."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from testbed.child_process import start_child_process

_SAMPLE_SECONDS = 0.025
_TIMEOUT_SECONDS = 300.0
_TICKS = os.sysconf("SC_CLK_TCK")


class ContestError(RuntimeError):
    """A contestant failed or timed out. The message has the reason and the end of its log."""


@dataclass(frozen=True, slots=True)
class Used:
    """What a process used."""

    anonymous_bytes: int
    """Maximum of its anonymous memory."""
    cpu_seconds: float
    """User and system time while it was measured."""


class Measured:
    """A process that is sampled until it ends, and is killed at the end of the `with` block or of this process.

    stdin: whether it has one, which `send` writes to. stdout: a file; without one, read its stdout with `line`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._name = " ".join(command[:4])
        self._process = start_child_process(
            command,
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        self._lines: list[tuple[float, str]] = []
        self._more = threading.Condition()
        self._ended = False
        self._max_bytes = 0
        self._cpu = self._cpu_before = 0.0
        for work in (self._read_log, self._sample):
            threading.Thread(target=work, daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin(self) -> None:
        """Count its CPU time from now on; without this call it counts from its start."""
        self._cpu_before = cpu_seconds(self.pid)

    def used(self) -> Used:
        """Return what it has used so far; after its end, up to the last sample."""
        with suppress(OSError):
            self._cpu = cpu_seconds(self.pid)
        return Used(self._max_bytes, self._cpu - self._cpu_before)

    def send(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()

    def line(self) -> str:
        """Return the next line that it prints. Raises ContestError if there is none in five minutes."""
        assert self._process.stdout
        killer = threading.Timer(_TIMEOUT_SECONDS, self._process.kill)
        killer.start()
        try:
            line = self._process.stdout.readline().decode()
        finally:
            killer.cancel()
        if not line:
            raise ContestError(f"{self._name} printed nothing{self._log()}")
        return line.rstrip("\n")

    def last_line(self) -> str:
        """Close its stdin and return the line that it then prints."""
        assert self._process.stdin
        self._process.stdin.close()
        return self.line()

    def await_log(self, pattern: str) -> float:
        """Wait until it has logged such a line. Returns when it did, s since the epoch. Raises ContestError."""

        def found() -> float | None:
            return next((at for at, line in self._lines if re.search(pattern, line)), None)

        with self._more:
            self._more.wait_for(lambda: self._ended or found() is not None, _TIMEOUT_SECONDS)
            at = found()
        if at is None:
            raise ContestError(f"{self._name} didn't log {pattern!r}{self._log()}")
        return at

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait until it ends by itself. Raises ContestError if that takes five minutes, or it fails."""
        try:
            code = self._process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ContestError(f"{self._name} doesn't end{self._log()}") from None
        if code:
            raise ContestError(f"{self._name} ended with exit code {code}{self._log()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it that signal and wait until it has ended. Raises ContestError."""
        self._process.send_signal(number)
        try:
            self._process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ContestError(f"{self._name} doesn't end{self._log()}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with suppress(BrokenPipeError):
                    stream.close()

    def _read_log(self) -> None:
        assert self._process.stderr
        with self._process.stderr as log:
            for line in log:
                with self._more:
                    self._lines.append((time.time(), line.decode(errors="replace").rstrip()))
                    self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def _sample(self) -> None:
        status = Path(f"/proc/{self.pid}/status")
        while True:
            try:
                match = re.search(r"RssAnon:\s+(\d+) kB", status.read_text())
                self._cpu = cpu_seconds(self.pid)
            except OSError:
                return
            if match is None:  # it has ended, but wasn't waited for yet
                return
            self._max_bytes = max(self._max_bytes, int(match[1]) * 1024)
            time.sleep(_SAMPLE_SECONDS)

    def _log(self) -> str:
        return "".join(f"\n  {line}" for _, line in self._lines[-10:])


def cpu_seconds(pid: int) -> float:
    """Return user and system time of a process since its start. Raises OSError if there is no such process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
