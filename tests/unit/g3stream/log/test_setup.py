"""Floods of similar log lines are summarized in a few, and the counts add up; other lines are written."""

import json
import logging
import random
import re
import subprocess
import sys
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest

from g3stream.log.flood import (
    FLOOD_SECONDS,
    MAX_INFO_WRITTEN,
    MAX_INTERVAL_SECONDS,
    MAX_KEYS,
    MAX_WRITTEN,
    LogFloodFilter,
)
from g3stream.log.setup import JsonLines

REJECTED = "%s: rejected a frame of %d bytes: %s"


def line(*args: Any, msg: str = REJECTED, level: int = logging.WARNING, name: str = "ingest.stream") -> Any:
    return logging.LogRecord(name, level, __file__, 1, msg, args, None)


class Log:
    """The lines that the handler would write; its clock advances only by `until`."""

    def __init__(self) -> None:
        self.flood_filter = LogFloodFilter()
        self.now = 1000.0
        self.written: list[tuple[float, str]] = []

    def emit(self, *args: Any, **more: Any) -> bool:
        """Log a line; return whether it was written at once."""
        record = line(*args, **more)
        if self.flood_filter.suppresses(record, self.now):
            return False
        self._write(record)
        return True

    def until(self, now: float) -> None:
        """Advance the clock; write summaries when they are due."""
        while (due := self.flood_filter.next_due()) is not None and due <= now:
            before = due
            self.now = max(self.now, due)
            for record in self.flood_filter.summaries(self.now):
                self._write(record)
            assert self.flood_filter.next_due() != before, "the summary thread would spin"
        self.now = now

    def end(self) -> None:
        for record in self.flood_filter.summaries(self.now, all_of_them=True):
            self._write(record)

    def _write(self, record: logging.LogRecord) -> None:
        self.written.append((self.now, record.getMessage()))

    @property
    def lines(self) -> list[str]:
        return [text for _, text in self.written]

    @property
    def accounted(self) -> int:
        """The number of lines logged, according to what was written."""
        counts = [re.match(r"… (\d+) more like this in the last \d+ s: ", text) for text in self.lines]
        return sum(int(count[1]) if count else 1 for count in counts)


def test_the_first_few_are_written_and_the_rest_counted_with_the_latest() -> None:
    log = Log()
    written = [log.emit("slot", number, "bad CRC") for number in range(1000)]
    assert written == [True] * MAX_WRITTEN + [False] * (1000 - MAX_WRITTEN)
    assert len(log.written) == MAX_WRITTEN, "no summary before it is due"
    log.until(1000 + FLOOD_SECONDS)
    assert log.lines[MAX_WRITTEN:] == [
        "… 995 more like this in the last 10 s: slot: rejected a frame of 999 bytes: bad CRC"
    ]


def test_rare_lines_are_never_suppressed() -> None:
    log = Log()
    for second in range(0, 1000, 2):
        log.until(1000 + second)
        assert log.emit("slot", 1, "bad CRC") == (second % 2 == 0)
    assert log.accounted == len(log.written) == 500


def test_a_long_flood_is_summarized_less_and_less_often_but_once_a_minute() -> None:
    log = Log()
    for tenth in range(3000):
        log.until(1000 + tenth / 10)
        log.emit("slot", tenth, "bad CRC")
    counts = [at - 1000 for at, text in log.written if text.startswith("…")]
    assert counts == pytest.approx([10.5, 30.5, 70.5, 130.5, 190.5, 250.5], abs=0.2)
    log.end()
    assert log.accounted == 3000
    assert max(later - sooner for sooner, later in pairwise(counts)) <= MAX_INTERVAL_SECONDS + 0.2


def test_the_end_of_a_flood_is_summarized_and_then_lines_are_written_again() -> None:
    log = Log()
    for tenth in range(350):  # the second count would be due at 30.5 s, the third at 70.5 s
        log.until(1000 + tenth / 10)
        log.emit("slot", tenth, "bad CRC")
    log.until(5000)
    at, text = log.written[-1]
    assert at == pytest.approx(1034.9 + FLOOD_SECONDS)
    assert text.startswith("… 45 more") or text.startswith("… 44 more"), text
    assert log.accounted == 350
    assert log.flood_filter.next_due() is None
    assert [log.emit("slot", 1, "bad CRC") for _ in range(6)] == [True] * 5 + [False]


def test_a_flood_that_has_become_a_trickle_is_no_longer_suppressed() -> None:
    log = Log()
    for _ in range(100):
        log.emit("slot", 1, "bad CRC")
    for second in range(4, 200, 4):
        log.until(1000 + second)
        log.emit("slot", 1, "bad CRC")
    assert log.accounted == 100 + 49
    assert [text.startswith("…") for _, text in log.written].count(True) <= 2


def test_info_lines_are_suppressed_much_later_and_debug_lines_never() -> None:
    log = Log()
    written = [log.emit("slot", "START", msg="%s: %s", level=logging.INFO) for _ in range(70_000)]
    assert sum(written) == MAX_INFO_WRITTEN
    assert all(log.emit("slot", "x", msg="%s: %s", level=logging.DEBUG) for _ in range(1000))
    log.until(1000 + 2 * FLOOD_SECONDS)
    assert log.accounted == 71_000
    assert log.emit("slot", "START", msg="%s: %s", level=logging.INFO), "the flood is over"


OTHERS = [
    pytest.param({"args": ("other", 1, "bad CRC")}, id="another stream"),
    pytest.param({"args": ("slot",), "msg": "%s: the spool is full"}, id="another template"),
    pytest.param({"args": ("slot", 1, "bad CRC"), "level": logging.ERROR}, id="another level"),
    pytest.param({"args": ("slot", 1, "bad CRC"), "name": "archiver"}, id="another logger"),
]


@pytest.mark.parametrize("other", OTHERS)
def test_lines_that_differ_are_not_counted_together(other: dict[str, Any]) -> None:
    log = Log()
    for _ in range(100):
        log.emit("slot", 1, "bad CRC")
    args = other.pop("args")
    assert log.emit(*args, **other)


@pytest.mark.parametrize(
    ("msg", "args"),
    [("%s", ()), ("100 %", ()), ("%(a)s", ({"a": 1},)), ("%s %s", (KeyError("x"), 2)), ("", ())],
)
def test_any_template_is_accepted(msg: str, args: tuple[Any, ...]) -> None:
    log = Log()
    for _ in range(20):
        log.emit(*args, msg=msg)
    log.end()
    assert log.accounted == 20


def test_every_line_is_counted_at_any_timing() -> None:
    rng = random.Random(4)
    log = Log()
    logged = 0
    for _ in range(20_000):
        if rng.random() < 0.02:
            log.until(log.now + rng.choice([0.1, 3, 9, 10, 11, 70]))
        log.emit(f"slot{rng.randrange(rng.choice([2, 500]))}", 1, "bad CRC")
        logged += 1
    log.end()
    assert log.accounted == logged
    assert log.flood_filter.next_due() is None


def test_memory_is_bounded_whatever_the_lines() -> None:
    log = Log()
    tracemalloc.start()
    try:
        for number in range(30_000):
            log.emit(f"slot{number}" + "x" * 1000, 1, "bad CRC")
        log.written.clear()
        assert tracemalloc.get_traced_memory()[0] < MAX_KEYS * 4000
    finally:
        tracemalloc.stop()


def test_data_referenced_by_an_error_is_not_kept() -> None:
    def fail() -> None:
        data = bytearray(100_000)
        raise OSError(f"{len(data)} bytes could not be written")

    log = Log()
    tracemalloc.start()
    try:
        for number in range(MAX_KEYS):
            for _ in range(MAX_WRITTEN + 1):
                try:
                    fail()
                except OSError as error:
                    log.emit(f"slot{number}", error, msg="%s: can't write: %s")
        assert tracemalloc.get_traced_memory()[0] < 4_000_000
    finally:
        tracemalloc.stop()


# As JSON


def as_json(record: logging.LogRecord) -> dict[str, Any]:
    text = JsonLines().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_json_line_has_time_level_logger_and_stream() -> None:
    record = line("crate1slot2", 100, 'bad "CRC"\nand more')
    record.created, record.msecs = 1_700_000_000.25, 250.0
    assert as_json(record) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "logger": "ingest.stream",
        "message": 'crate1slot2: rejected a frame of 100 bytes: bad "CRC"\nand more',
        "stream": "crate1slot2",
    }
    assert "stream" not in as_json(line("/spool/1", msg="%s is damaged")), "a path is not a stream"


def test_a_json_summary_has_the_stream_and_the_count_as_a_number() -> None:
    flood_filter = LogFloodFilter()
    for number in range(1000):
        flood_filter.suppresses(line("slot", number, "bad CRC"), 1000.0)
    (summary,) = flood_filter.summaries(1001.0, all_of_them=True)
    found = as_json(summary)
    assert (found["stream"], found["level"], found["count"]) == ("slot", "warning", 1000 - MAX_WRITTEN)


def test_a_json_line_is_utf_8_whatever_the_file_name() -> None:
    text = JsonLines().format(line("slot", 1, "µ \udcff"))
    assert json.loads(text.encode())["message"] == "slot: rejected a frame of 1 bytes: µ ?"


def test_a_json_line_contains_a_whole_traceback() -> None:
    try:
        raise OSError("the disk\nis gone")
    except OSError:
        record = logging.LogRecord("a", logging.ERROR, __file__, 1, "ingest failed", (), sys.exc_info())
    assert "OSError: the disk\nis gone" in as_json(record)["exception"]


# The handler, in a program of its own

_PROGRAM = """
import logging, os, signal, sys, threading, time
import g3stream.log.flood
from g3stream.log.setup import service_log
g3stream.log.flood.FLOOD_SECONDS = float(sys.argv[1])
service_log("info")
log = logging.getLogger("ingest.stream")
over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
def flood():
    for number in range(1000):
        log.warning("%s: rejected a frame of %d bytes: %s", "slot", number, "bad CRC")
threads = [threading.Thread(target=flood) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
for number in range(150):
    log.info("%s: finished %d", "slot", number)
log.error("%s %d", "no number")
print("flooded", flush=True)
over.wait()
"""


def flooded(seconds: float) -> subprocess.Popen[str]:
    program = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout
    assert program.stdout.readline() == "flooded\n"
    return program


def test_suppressed_lines_are_summarized_at_the_latest_when_the_program_is_stopped() -> None:
    program = flooded(3600)
    program.terminate()
    _, log = program.communicate(timeout=30)
    assert program.returncode == 0
    lines = [text for text in log.splitlines() if "rejected" in text]
    assert len(lines) == MAX_WRITTEN + 1
    assert re.search(r"Z WARNING … 3995 more like this in the last \d+ s: slot: rejected a frame of ", lines[-1])
    finished = [text for text in log.splitlines() if "slot: finished" in text]
    assert len(finished) == MAX_INFO_WRITTEN + 1
    assert "INFO    … 50 more like this" in finished[-1]
    assert "not enough arguments for format string" in log, "as logging does"


def test_the_end_of_a_flood_is_summarized_without_another_line() -> None:
    program = flooded(0.3)
    assert program.stderr
    accounted = MAX_WRITTEN
    while accounted < 4000:
        text = program.stderr.readline()
        assert text, "the program ended"
        if more := re.search("… ([0-9]+) more like this", text):
            accounted += int(more[1])
    assert accounted == 4000
    program.terminate()
    program.communicate(timeout=30)
