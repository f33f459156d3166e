"""Log writer: lines reach the descriptor in order, `put` never waits for the reader, dropped lines are counted."""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator

import pytest

from g3stream.log import writer as log_writer
from g3stream.log.writer import MAX_BYTES, MAX_LINE_BYTES, MAX_LINES, LogWriter

PAGE = 4096


class Pipe:
    """A pipe of one page that a LogWriter writes to."""

    def __init__(self) -> None:
        self.reader, self.fd = os.pipe()
        fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, PAGE)
        self.writer = LogWriter(self.fd, lambda count: b"%d dropped\n" % count)
        self.read_bytes = b""

    def put(self, *lines: str) -> None:
        for line in lines:
            self.writer.put(line.encode() + b"\n")

    def read_until(self, enough: Callable[[list[str]], bool]) -> list[str]:
        """Read until `enough` is true of the lines so far; return them."""
        while not enough(lines := self.read_bytes.decode().splitlines()):
            self.read_bytes += os.read(self.reader, 1 << 16)
        return lines


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.writer.end()
    os.close(pipe.reader)


def accounted(lines: list[str]) -> int:
    """Return how many lines were put, according to those that were written."""
    return sum(int(line.split()[0]) if line.endswith("dropped") else 1 for line in lines)


def test_lines_arrive_in_order_and_whole(pipe: Pipe) -> None:
    lines_put = [f"{number} " + "x" * (number % 300) for number in range(5000)]
    putting = threading.Thread(target=pipe.put, args=lines_put)
    putting.start()
    assert pipe.read_until(lambda lines: lines[-1:] == lines_put[-1:]) == lines_put
    putting.join()
    assert pipe.writer.status().dropped_lines == 0


def test_the_newest_of_many_lines_are_kept_and_the_others_counted_where_they_are_missing(pipe: Pipe) -> None:
    lines_put = [str(number) for number in range(3 * MAX_LINES)]
    pipe.put(*lines_put)  # nothing reads: a blocking write would never return
    lines = pipe.read_until(lambda lines: lines[-1:] == lines_put[-1:])
    assert accounted(lines) == len(lines_put)
    notices = [at for at, line in enumerate(lines) if line.endswith("dropped")]
    assert lines[: notices[0]] == lines_put[: notices[0]], "the oldest are in the pipe"
    assert lines[notices[-1] + 1 :] == lines_put[-MAX_LINES:]
    assert pipe.writer.status().dropped_lines == sum(int(lines[at].split()[0]) for at in notices)


def test_memory_is_bounded_whatever_the_lines(pipe: Pipe) -> None:
    for number in range(200):
        pipe.put(f"{number} " + "x" * 10 * MAX_LINE_BYTES)
    pipe.put("last")
    lines = pipe.read_until(lambda lines: lines[-1:] == ["last"])
    assert accounted(lines) == 201
    assert sum(map(len, lines)) < MAX_BYTES + 3 * MAX_LINE_BYTES
    assert lines[-2].endswith(" ... (cut)")


def test_the_end_waits_for_a_slow_reader(pipe: Pipe) -> None:
    pipe.put(*map(str, range(2000)))
    reading = threading.Thread(target=pipe.read_until, args=(lambda lines: lines[-1:] == ["1999"],))
    reading.start()
    assert pipe.writer.end()
    reading.join()


def test_the_end_does_not_wait_for_a_stuck_reader_and_nothing_is_put_after_it(pipe: Pipe) -> None:
    pipe.put(*map(str, range(2000)))
    assert not pipe.writer.end()
    pipe.put("after the end")
    assert "after the end" not in pipe.read_until(lambda lines: lines[-1:] == ["1999"])


def test_a_stuck_reader_is_a_problem_after_a_while_until_it_reads(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.put("x")
    pipe.read_until(lambda lines: lines == ["x"])
    monkeypatch.setattr(log_writer, "STUCK_SECONDS", 0.0)
    pipe.put("x" * 2 * PAGE)
    while (problem := pipe.writer.status().problem) is None:
        pass
    assert problem.startswith("the log hasn't been written for 0 s: stderr is not being read (0 lines dropped)")
    pipe.read_until(lambda lines: len(lines) == 2 and len(lines[1]) == 2 * PAGE)
    while pipe.writer.status().problem:
        pass


def test_a_failed_write_is_retried_and_the_line_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "_RETRY_SECONDS", 0.01)
    written = bytearray()
    fails = iter([None, OSError(28, "No space left on device"), OSError(28, "No space left on device"), None])
    done = threading.Event()

    def write(_: int, data: memoryview) -> int:
        if error := next(fails, None):
            raise error
        written.extend(data[:4])
        if written.endswith(b"\n"):
            done.set()
        return len(data[:4])

    monkeypatch.setattr(os, "write", write)
    writer = LogWriter(99, lambda count: b"%d dropped\n" % count)
    writer.put(b"a whole line\n")
    assert done.wait(30)
    assert bytes(written) == b"a whole line\n"
    assert writer.end()


def test_a_line_may_be_put_during_another_put() -> None:
    """As when garbage collection during `put` prints a warning about an object that can't be deleted."""
    reader, fd = os.pipe()
    writer = LogWriter(fd, lambda count: b"%d dropped\n" % count)

    class Line(bytes):
        """A line whose length can't be read without another line being printed."""

        def __len__(self) -> int:
            if threading.current_thread() is putting:
                writer.put(b"x\n")
            return super().__len__()

    putting = threading.Thread(target=writer.put, args=(Line(b"a line\n"),), daemon=True)
    putting.start()
    putting.join(30)
    assert not putting.is_alive()
    assert writer.end()
    assert sorted(os.read(reader, 100).splitlines()) == [b"a line", b"x", b"x"]
    os.close(reader)
