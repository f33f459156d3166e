"""A server of the testbed in a child process: started until it is ready, stopped, killed, and started again."""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from testbed.child_process import start_child_process

_STOP_SECONDS = 20.0
_TAIL_LINES = 30


class ServerError(RuntimeError):
    """A server can't be installed, or doesn't start. The message has the reason."""


class StartStop(ABC):
    """A context manager that starts something, and stops it."""

    @abstractmethod
    def start(self) -> None:
        """Start it and return when it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """Stop it in order."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Server(StartStop):
    """A server process, which is killed when this process ends. Not safe to use from two threads at once.

    what: its name in errors. log: the path of its log, of all its starts.
    """

    def __init__(self, what: str, log: Path) -> None:
        self.log = log
        self._what = what
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Its process id, or None when it isn't running."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def stop(self) -> None:
        """Stop it in order (SIGTERM); kill it if that takes more than 20 s. No effect if it isn't running."""
        if self._process:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
            self.kill()

    def kill(self) -> None:
        """Kill it (SIGKILL): a crash, as its clients and its data see it. It can be started again."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def wait(self) -> int:
        """Wait until it ends by itself, and return its exit code."""
        return 0 if self._process is None else self._process.wait()

    def _start_process(
        self,
        command: Sequence[str],
        is_ready: Callable[[], bool],
        timeout_s: float,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process and wait until it is ready. Raises ServerError, with the end of its log."""
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        try:
            with self.log.open("ab") as log:
                self._process = start_child_process(command, stdout=log, stderr=subprocess.STDOUT, env=env)
        except OSError as error:
            raise ServerError(f"{self._what} can't be started: {error}") from error
        give_up_at = time.monotonic() + timeout_s
        try:
            while not is_ready():
                if (code := self._process.poll()) is not None:
                    raise ServerError(f"{self._what} ended with exit code {code}{self._tail()}")
                if time.monotonic() > give_up_at:
                    raise ServerError(f"{self._what} isn't ready in {timeout_s:.0f} s{self._tail()}")
                time.sleep(0.02)
        except BaseException:
            self.kill()
            raise

    def _has_logged(self, text: str) -> bool:
        """Whether it has logged this since it was started."""
        return text in self._logged()

    def _logged(self) -> str:
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _tail(self) -> str:
        """Return the end of an error message: the last lines of its log since its start."""
        # Java's stack frames would push out the lines with the causes.
        lines = [line for line in self._logged().splitlines() if not line.startswith("\tat ")]
        text = "\n".join(lines[-_TAIL_LINES:])
        return f"; its log ({self.log}):\n{text}" if text.strip() else f"; nothing in its log ({self.log})"
