"""Runs a command for an event of `--on-file`.

It gets the event's JSON on stdin, and the main values as environment variables. What it prints is logged. It may take
any time. Exit code 0 means success. It has a process group of its own, so that Ctrl-C in the archiver's terminal
doesn't reach it, and that an abort also ends the processes it has started.
"""

import contextlib
import logging
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from archiver.core.events import FileRetired, RecordsLost
from archiver.handover.on_file import SINK, Command
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.host.printable import printable

log = logging.getLogger(__name__)

_POLL_S = 0.1
_TERM_S = 2.5
"""Time from SIGTERM to SIGKILL: a sink must end within 3 s of an abort."""
_MAX_LINE_BYTES = 1000
"""The most bytes logged of one line of output."""
_MAX_LINES = 100
"""The most lines logged of one run."""
_READ_BYTES = 1 << 16
_FLOOD_S = 0.01
"""Pause after each _READ_BYTES: a command that prints endlessly takes little of this program's time."""
_MAX_REASON = 200
"""The most characters of the last line of output that an error quotes."""


def run_command(command: Command, pending: PendingEvent, root: Path, abort: threading.Event) -> None:
    """Run the command for an event, to its end. root: the data directory. Raises SinkError unless it exits with 0."""
    output = _Output()
    try:
        # In memory: the command reads its input, or doesn't, while nobody waits for it.
        with os.fdopen(os.memfd_create("event"), "w+b", buffering=0) as stdin:
            stdin.write(pending.value + b"\n")
            stdin.seek(0)
            process = subprocess.Popen(
                command.argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **variables(pending, root)},
                start_new_session=True,
                bufsize=0,
            )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SinkError(f"{command.argv[0]} can't be run: {why}") from None
    with process:
        try:
            _follow(process, output, abort)
        finally:
            # Aborted: processes that it has started mustn't run beside the next attempt.
            if process.poll() is None or abort.is_set():
                _signal(process, signal.SIGKILL)
    output.end()
    if abort.is_set():
        raise SinkError("aborted")
    if process.returncode:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"ended by {_name(-code)}"
        raise SinkError(f"{how}: {output.last}" if output.last else how)


def variables(pending: PendingEvent, root: Path) -> Mapping[str, str]:
    """Return the environment variables that describe an event, added to the archiver's own. Pure."""
    event = pending.event
    found = {
        "G3_EVENT": str(event.__struct_config__.tag),
        "G3_KEY": event.key,
        "G3_GROUP": event.group,
        "G3_STREAM": event.stream,
        "G3_DATA_DIR": str(root),
        "G3_ATTEMPT": str(pending.attempt),
    }
    if not isinstance(event, RecordsLost):
        found |= {"G3_PATH": str(root / event.path), "G3_SHA256": event.sha256, "G3_BYTES": str(event.bytes)}
        if not isinstance(event, FileRetired):
            found["G3_FRAMES"] = str(event.frames)
    return found


def _follow(process: "subprocess.Popen[bytes]", output: "_Output", abort: threading.Event) -> None:
    """Log the command's output, and end it on abort, until it has ended.

    Processes that it has left behind with its stdout are not waited for.
    """
    assert process.stdout
    stdout = process.stdout.fileno()
    os.set_blocking(stdout, False)
    readable = select.poll()
    readable.register(stdout, select.POLLIN)
    kill_at_s: float | None = None
    while process.poll() is None:
        if abort.is_set() and kill_at_s is None:
            _signal(process, signal.SIGTERM)
            kill_at_s = time.monotonic() + _TERM_S
        elif kill_at_s is not None and time.monotonic() > kill_at_s:
            _signal(process, signal.SIGKILL)
        if readable.poll(_POLL_S * 1000) and not output.read(stdout):
            # It most likely ends now: waiting notices that sooner than polling.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_POLL_S)
    output.read(stdout)


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Signal the process group; call it before `wait`, while the id can't belong to another group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Output:
    """Logs a command's output line by line."""

    def __init__(self) -> None:
        self.last = ""
        """The last line that isn't empty, shortened; "" if there is none."""
        self._begun = b""  # the line that has no end yet
        self._lines = 0

    def read(self, fd: int) -> bool:
        """Read and log some output; return False at its end."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return True
        *lines, begun = (self._begun + data).split(b"\n")
        self._begun = begun[: _MAX_LINE_BYTES + 1]
        if self._lines >= _MAX_LINES:
            lines = [line for line in lines if line.strip()][-1:]
        for line in lines:
            self._add(line)
        if len(data) == _READ_BYTES:
            time.sleep(_FLOOD_S)
        return bool(data)

    def end(self) -> None:
        """Log the last, unterminated line."""
        if self._begun:
            self._add(self._begun)

    def _add(self, line: bytes) -> None:
        text = line[:_MAX_LINE_BYTES].decode(errors="replace").rstrip()
        if text:
            self.last = printable(text)[:_MAX_REASON]
        self._lines += 1
        if self._lines <= _MAX_LINES and text:
            log.info("%s: output: %s%s", SINK, text, " …" if len(line) > _MAX_LINE_BYTES else "")
        if self._lines == _MAX_LINES:
            log.info("%s: further output of this run is not logged", SINK)
