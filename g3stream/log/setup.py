"""The log on stderr: text or JSON, times in UTC, floods of similar lines summarized (flood.py).

A service never waits for the reader of its log (writer.py); a command that an operator runs does.
"""

import atexit
import io
import json
import logging
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

from g3stream.host.printable import printable, printable_json, printable_lines
from g3stream.log.flood import LogFloodFilter, make_line
from g3stream.log.writer import LogWriter


class FloodFilterHandler(logging.Handler):
    """A handler that writes the lines that `LogFloodFilter` passes, and its summaries when they are due.

    write: called with each line, without its line end. end: called last, when logging ends.
    """

    def __init__(self, write: Callable[[str], None], end: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._write_line = write
        self._end = end
        self._flood_filter = LogFloodFilter()
        assert self.lock
        self._condition = threading.Condition(self.lock)  # its `wait` releases the lock
        self._summary_thread: threading.Thread | None = None  # while summaries are due some time
        self._closed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write or count a record; logging holds this handler's lock."""
        try:
            if self._closed or not self._flood_filter.suppresses(record, time.monotonic()):
                self._write_line(self.format(record))
            elif self._summary_thread is None:
                self._summary_thread = threading.Thread(target=self._write_summaries, name="log", daemon=True)
                self._summary_thread.start()
        except Exception:  # noqa: BLE001 - as logging itself handles lines that can't be formatted
            self.handleError(record)

    def close(self) -> None:
        """Write all summaries; logging calls this when the program ends."""
        with self._condition:
            if not self._closed:
                self._closed = True
                self._write(self._flood_filter.summaries(time.monotonic(), all_of_them=True))
        super().close()
        self._end()

    def _write_summaries(self) -> None:
        with self._condition:
            while not self._closed and (due := self._flood_filter.next_due()) is not None:
                # A flood that begins meanwhile is due no sooner than those of now.
                self._condition.wait(max(0.0, due - time.monotonic()))
                if not self._closed:
                    self._write(self._flood_filter.summaries(time.monotonic()))
            self._summary_thread = None

    def _write(self, records: list[logging.LogRecord]) -> None:
        for record in records:
            self._write_line(self.format(record))


class _Text(logging.Formatter):
    """Format of text lines: time, level, message; an exception below, indented so that it can't pass for a line."""

    converter = time.gmtime  # type: ignore[assignment]  # typeshed misses that its argument is optional
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line with unprintable characters escaped."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return the exception indented, with unprintable characters escaped."""
        return textwrap.indent(printable_lines(super().formatException(ei)), "  ")


class JsonLines(_Text):
    """Format of JSON lines, one object each.

    Keys: `time`, `level`, `logger`, `message`; `stream` if the line is about one; `count` of the similar lines that a
    summary stands for; `dropped`, the number of dropped lines; `exception`, as Python prints it.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        fields: dict[str, str | int] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if stream := getattr(record, "stream", _stream(record)):
            fields["stream"] = stream
        fields |= {key: number for key in ("count", "dropped") if (number := getattr(record, key, 0))}
        if record.exc_info:
            fields["exception"] = logging.Formatter.formatException(self, record.exc_info)
        # Python decodes a file name that isn't UTF-8 to lone surrogates, which other readers of JSON refuse.
        return printable_json(json.dumps(fields, ensure_ascii=False).encode(errors="replace").decode())


def log_to_stderr(level: str, form: str = "text") -> None:
    """Log lines of `level` and above to stderr, for a command: it waits for the reader. form: text or json."""
    stderr = sys.stderr

    def write(line: str) -> None:
        stderr.write(line + "\n")
        stderr.flush()

    _log_with(FloodFilterHandler(write), level, form)


def service_log(level: str, form: str = "text") -> LogWriter:
    """Log to stderr for a service, without waiting for the reader; return the writer. form: text or json.

    Everything else that Python prints to stderr, such as warnings, is written in the same way.
    """
    encoding = "utf-8" if form == "json" else sys.stderr.encoding

    def encoded(line: str) -> bytes:
        return line.encode(encoding, errors="backslashreplace") + b"\n"

    def end() -> None:
        if writer.end():
            sys.stderr = stderr  # for later messages of the interpreter itself

    stderr = sys.stderr
    writer = LogWriter(2, lambda count: encoded(handler.format(_dropped(count))))
    handler = FloodFilterHandler(lambda line: writer.put(encoded(line)), end)
    _log_with(handler, level, form)
    sys.stderr = _LineWriter(lambda line: writer.put(encoded(printable(line))))
    sys.excepthook = lambda _, error, __: _log_uncaught("the program", error)
    threading.excepthook = _log_uncaught_in_thread
    return writer


def service_output(fd: int) -> io.TextIOBase:
    """Return a text file on a descriptor for another library's log, which doesn't wait for the reader either."""
    writer = LogWriter(fd, lambda count: f"{_dropped(count).getMessage()}\n".encode())
    atexit.register(writer.end)
    return _LineWriter(lambda line: writer.put(f"{line}\n".encode(errors="backslashreplace")))


def _log_with(handler: logging.Handler, level: str, form: str) -> None:
    handler.setFormatter(JsonLines() if form == "json" else _Text("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(handlers=[handler], level=level.upper())


class _LineWriter(io.TextIOBase):
    """A text file that passes on whole lines. write_line: called with each line, without its line end."""

    def __init__(self, write_line: Callable[[str], None]) -> None:
        super().__init__()
        self._write_line = write_line
        self._lock = threading.RLock()  # garbage collection may print a warning at any point
        self._incomplete_line = ""

    def write(self, text: str) -> int:
        """Pass on the lines that `text` completes."""
        with self._lock:
            *lines, self._incomplete_line = (self._incomplete_line + text).split("\n")
            for line in lines:
                self._write_line(line)
        return len(text)


def _log_uncaught(where: str, error: BaseException) -> None:
    logging.getLogger().critical("%s ends with an unexpected error of this program", where, exc_info=error)


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value and not isinstance(args.exc_value, SystemExit):
        _log_uncaught(f"the thread {args.thread.name if args.thread else 'unknown'}", args.exc_value)


def _dropped(count: int) -> logging.LogRecord:
    """Return the line that stands for `count` dropped lines."""
    text = f"… {count} lines of the log were dropped here: the log was not read in time"
    return make_line("log", logging.WARNING, text, dropped=count)


def _stream(record: logging.LogRecord) -> str:
    """Return the stream that a line is about, by convention its first argument; an empty string if none."""
    named = str(record.msg).startswith("%s: ") and isinstance(record.args, tuple) and record.args
    return str(named[0]) if named else ""
