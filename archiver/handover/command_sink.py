"""CommandSink: runs a command for each event, with the event's JSON on its stdin, and its essentials as variables.

What it prints goes to the log. It may take as long as it likes. Exit code 0 means done; anything else, and it is run
again. It leads a process group of its own, so that Ctrl-C in a terminal isn't meant for it, and so that what it has
started ends with it when it is aborted.
"""

import contextlib
import logging
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from archiver.core.events import Event, FileAdopted, FileRetired, RecordsLost
from archiver.handover.on_file import SINK, Command
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.host.printable import printable

log = logging.getLogger(__name__)

_POLL_S = 0.1
_TERM_S = 2.5
"""How long a command may take to end after SIGTERM, before SIGKILL: a sink has 3 s."""
_MAX_LINE_BYTES = 1000
"""Of a line that a command prints, that are logged."""
_MAX_LINES = 100
"""Of a run, that are logged."""
_READ_BYTES = 1 << 16
_FLOOD_S = 0.01
"""The pause after so many bytes: a command that prints without end takes little of this program's time."""
_MAX_REASON = 200


class CommandSink:
    """Runs the command. root: the data directory."""

    def __init__(self, command: Command, root: Path) -> None:
        self._argv = command.argv
        self._root = root
        if shutil.which(self._argv[0]) is None:
            # No reason not to record: its file system may not be mounted yet.
            log.warning("%s: there is no program %s now; it is looked for at each event", SINK, self._argv[0])

    @property
    def name(self) -> str:
        """As Sink's."""
        return SINK

    def wants(self, event: Event) -> bool:
        """As Sink's: not what was adopted, which was there, and handed over or not, before it was the archive's."""
        return not isinstance(event, FileAdopted)

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """As Sink's."""
        environment = {**os.environ, **variables(pending, self._root)}
        _run(self._argv, environment, pending.value + b"\n", abort)


def variables(pending: PendingEvent, root: Path) -> Mapping[str, str]:
    """What the command's environment says of an event, besides what the archiver's own says. Pure."""
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


def _run(argv: Sequence[str], environment: Mapping[str, str], given: bytes, abort: threading.Event) -> None:
    """Run it to its end. Raises SinkError if it doesn't exit 0."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise SinkError(f"{argv[0]} can't be run: {why}") from None
    output = _Output()
    try:
        _communicate(process, given, output, abort)
    finally:
        if process.poll() is None or abort.is_set():  # aborted: what it has started mustn't go on beside the next run
            _signal(process, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        output.end()
    if abort.is_set():
        raise SinkError("aborted")
    if process.returncode:
        code = process.returncode
        how = f"exit code {code}" if code > 0 else f"ended by {_name(-code)}"
        raise SinkError(f"{how}: {output.last}" if output.last else how)


def _communicate(process: "subprocess.Popen[bytes]", given: bytes, output: "_Output", abort: threading.Event) -> None:
    """Give it its input, log what it prints, and end it if that is asked for; until it has ended.

    What it has started, and left behind with its stdout, isn't waited for.
    """
    assert process.stdin
    assert process.stdout
    kill_at: float | None = None
    with selectors.DefaultSelector() as selector:
        for pipe, event in ((process.stdin, selectors.EVENT_WRITE), (process.stdout, selectors.EVENT_READ)):
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, event)
        while process.poll() is None:
            if abort.is_set() and kill_at is None:
                _signal(process, signal.SIGTERM)
                kill_at = time.monotonic() + _TERM_S
            elif kill_at is not None and time.monotonic() > kill_at:
                _signal(process, signal.SIGKILL)
            for key, _ in selector.select(_POLL_S):
                if key.fileobj is process.stdin:
                    given = _write(key.fd, given)
                    if not given:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                elif not output.read(key.fd):
                    selector.unregister(process.stdout)
                    # It most likely ends now: known sooner so than by looking at times.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(_POLL_S)
        output.read(process.stdout.fileno())


def _write(fd: int, given: bytes) -> bytes:
    """What of it is left to be written: nothing, too, if the command doesn't read it."""
    try:
        return given[os.write(fd, given) :]
    except BlockingIOError:
        return given
    except BrokenPipeError:
        return b""


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """To all of its process group, while it hasn't been waited for."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _Output:
    """What a command prints, logged line by line."""

    def __init__(self) -> None:
        self._line = b""
        self._tail = b""
        self._lines = 0

    @property
    def last(self) -> str:
        """The last line that isn't empty, shortened; "" if there is none."""
        return printable(self._tail.decode(errors="replace").rstrip().rpartition("\n")[2])[:_MAX_REASON]

    def read(self, fd: int) -> bool:
        """Take some of what is there now; gives whether there may be more later."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return True
        self._tail = (self._tail + data[-_MAX_LINE_BYTES:])[-_MAX_LINE_BYTES:]
        if self._lines < _MAX_LINES:
            *whole, rest = data.split(b"\n", _MAX_LINES - self._lines)
            for line in whole:
                self._add(line)
                self._end_line()
            self._add(rest)
        if len(data) == _READ_BYTES:
            time.sleep(_FLOOD_S)
        return bool(data)

    def end(self) -> None:
        """There is no more."""
        if self._line and self._lines < _MAX_LINES:
            self._end_line()

    def _add(self, data: bytes) -> None:
        self._line += data[: _MAX_LINE_BYTES + 1 - len(self._line)]

    def _end_line(self) -> None:
        line, self._line = self._line, b""
        self._lines += 1
        if text := line[:_MAX_LINE_BYTES].decode(errors="replace").rstrip():
            log.info("%s: says: %s%s", SINK, text, " …" if len(line) > _MAX_LINE_BYTES else "")
        if self._lines == _MAX_LINES:
            log.info("%s: what else this run says isn't logged", SINK)
