"""The decoder's process: started, asked, and killed and started again if it dies or hangs."""

import logging
import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Final

from archiver.quicklook.so3g_decoder.wire import WireError, read_message, write_message
from archiver.quicklook.state import DecoderStatus
from g3stream.host.printable import printable
from g3stream.service.supervisor import Backoff

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 60.0
"""Of an answer. A look of 2,000 channels takes 1 s; the libraries, at the start, as long on a slow disk."""
_BACKOFF: Final = Backoff(min_s=1.0, max_s=60.0, stable_s=60.0)
_PROGRAM: Final = Path(__file__).parent / "so3g_decoder"
_LINES: Final = 20


class DecoderError(Exception):
    """The decoder hasn't answered; the message says why."""


class DecoderStartError(DecoderError):
    """The decoder can't be started, or ends before it is ready."""


class DecoderProcess:
    """A decoder that is started when it is asked. For one thread, but `status`.

    python: an interpreter that has so3g. clock: monotonic, s. now_ms: since the epoch.
    """

    def __init__(
        self,
        python: str,
        *,
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        timeout_s: float = TIMEOUT_S,
        program: Path = _PROGRAM,
    ) -> None:
        self._command = [python, str(program)]
        self._clock = clock
        self._now_ms = now_ms
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._messages: deque[str] = deque(maxlen=_LINES)
        self._reader: threading.Thread | None = None
        self._starts = 0
        self._started_s = 0.0
        self._delay_s = 0.0
        self._not_before_s = 0.0
        self.status = DecoderStatus()
        """For any thread."""

    @property
    def pid(self) -> int | None:
        """The id of its process; None if none runs."""
        return self._process.pid if self._process else None

    def pause_s(self) -> float:
        """Return how long to wait before it is asked again; 0 if it may be now."""
        return max(0.0, self._not_before_s - self._clock())

    def ask(self, fields: dict[str, Any], parts: Sequence[bytes]) -> tuple[dict[str, Any], list[bytes]]:
        """Return the answer to a request. Raises DecoderError: then it is started again at the next call."""
        is_late, is_ready = threading.Event(), False
        try:
            is_new = self._process is None
            process = self._process or self._start()
            timer = threading.Timer(self._timeout_s, _kill_late, (process, is_late))
            timer.start()
            try:
                if is_new:
                    self._greet(process)
                is_ready = True
                assert process.stdin
                write_message(process.stdin, fields, parts)
                answer = _answer(process)
            finally:
                timer.cancel()
        except (OSError, WireError, DecoderError) as error:
            why = self._failed(error, is_late=is_late.is_set())
            raise (DecoderError if is_ready else DecoderStartError)(why) from None
        self.status = replace(self.status, is_running=True, problem=None, since_ms=None)
        return answer

    def close(self) -> None:
        """End the process. For any thread: a request fails then."""
        self._is_closed = True
        if process := self._process:
            self._process = None
            _end(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start the process, and return it. Raises OSError."""
        self._starts += 1
        self.status = replace(self.status, restarts=self._starts - 1)
        self._started_s = self._clock()
        self._messages.clear()
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us; it ends when its stdin does
        )
        self._process = process
        assert process.stderr
        read, pipe = self._read_messages, process.stderr
        self._reader = threading.Thread(target=read, args=(pipe,), name="decoder", daemon=True)
        self._reader.start()
        return process

    def _greet(self, process: "subprocess.Popen[bytes]") -> None:
        """Wait until a new process is ready. Raises OSError, WireError, DecoderError."""
        versions, _ = _answer(process)
        shown = printable(", ".join(f"{name} {version}" for name, version in versions.items())[:100])
        self.status = replace(self.status, versions=shown)
        log.info("the decoder runs%s: %s", " again" if self._starts > 1 else "", shown)

    def _failed(self, error: Exception, *, is_late: bool) -> str:
        """End the process after an error; return it in words."""
        code = None
        if process := self._process:
            self._process = None
            if not is_late and not isinstance(error, WireError):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)  # it ends by itself, and its exit code says why
            code = _end(process)
            if self._reader:
                self._reader.join(1)  # what it said last is in the pipe still
        self._delay_s = _BACKOFF.delay_s(self._delay_s, self._clock() - self._started_s)
        self._not_before_s = self._clock() + self._delay_s
        if is_late:
            why = f"it didn't answer in {self._timeout_s:g} s, and was killed"
        elif isinstance(error, WireError):
            why = f"it answers otherwise than agreed: {error}"
        elif code is None:
            why = f"{self._command[0]} can't be started: {error}"
        else:
            why = "it has ended by " + (f"signal {-code}" if code < 0 else f"exit code {code}")
        last = self._messages[-1] if self._messages else ""
        why = f"{why}: {last}" if last else why
        text = f"the decoder: {why}"
        since_ms = self.status.since_ms or self._now_ms()
        self.status = replace(self.status, is_running=False, problem=text, since_ms=since_ms)
        if not self._is_closed:
            log.warning("the decoder: %s; it is started again in %g s", why, self._delay_s)
        return text

    def _read_messages(self, stderr: IO[bytes]) -> None:
        with stderr:
            for line in stderr:
                text = printable(line.decode(errors="replace").strip()[:300])
                if text:
                    self._messages.append(text)
                    log.debug("decoder: %s", text)


def _kill_late(process: "subprocess.Popen[bytes]", is_late: threading.Event) -> None:
    is_late.set()
    process.kill()


def _answer(process: "subprocess.Popen[bytes]") -> tuple[dict[str, Any], list[bytes]]:
    """Return its next message. Raises OSError, WireError, DecoderError at its end."""
    assert process.stdout
    answer = read_message(process.stdout)
    if answer is None:
        raise DecoderError("it has ended")
    return answer


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Kill the process, if it still runs, and close its pipes; return its exit code."""
    process.kill()
    code = process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe
        with suppress(OSError):  # what it hasn't read is dropped
            pipe.close()
    return code


def _environment() -> dict[str, str]:
    """Return ours, without what would make it another Python, and with one thread for each library."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
