"""Progress of long work: a bar for each task on a terminal, else a line every 10 s."""

import sys
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from archiver.console.runner import print_err, print_lines
from archiver.console.tables import Part, plain, terminal_text
from archiver.core.formatting import format_bytes
from g3stream.host.durations import format_duration
from g3stream.host.printable import printable

_LINE_SECONDS = 10.0


class Progress:
    """Shows the progress of tasks on stderr: a context manager, for one thread at a time."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Bytes(), TimeRemainingColumn())
        # Else rich would send what is printed to stdout to stderr, and it would be missing in a file or a pipe.
        self._bars = Bars(
            *columns, console=self._console, disable=not self._console.is_terminal, redirect_stdout=False
        )
        self._next_line_s = 0.0

    def start(self, name: str, total: int) -> None:
        """Begin a task. total: its size, in any unit."""
        self._bars.add_task(printable(name), total=total, bytes=0)
        self._next_line_s = time.monotonic() + _LINE_SECONDS

    def update(self, name: str, done: int, done_bytes: int) -> None:
        """Set how much of a task is done: in the unit of `total`, and in bytes."""
        task = self._task(name)
        self._bars.update(task.id, completed=done, bytes=done_bytes)
        now = time.monotonic()
        if self._bars.disable and now >= self._next_line_s:
            self._next_line_s = now + _LINE_SECONDS
            self.print_line(_line(task))

    def finish(self, name: str) -> None:
        """End a task."""
        task = self._task(name)
        self._bars.update(task.id, completed=task.total)

    def _task(self, name: str) -> Task:
        return next(task for task in reversed(self._bars.tasks) if task.description == printable(name))

    def print_line(self, line: str) -> None:
        """Print a line to stderr, above the bars."""
        if self._bars.disable:
            print_err(line)
        else:
            self._console.print(printable(line), soft_wrap=True)

    def print_output(self, *parts: Part) -> None:
        """Print to stdout; above the bars, if stdout is a terminal, too."""
        if self._bars.disable or not sys.stdout.isatty():
            print_lines(plain(parts), flush=True)
        else:
            self._console.print(terminal_text(parts, self._console.width), soft_wrap=True)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()


class _Bytes(ProgressColumn):
    """Column with the bytes done and their rate."""

    def render(self, task: Task) -> Text:
        count = task.fields["bytes"]
        seconds = task.finished_time or task.elapsed or 0
        return Text(format_bytes(count) + (f", {format_bytes(round(count / seconds))}/s" if seconds else ""))


def _line(task: Task) -> str:
    total, done, seconds, count = task.total or 0, task.completed, task.elapsed or 0, task.fields["bytes"]
    percent = int(100 * done // max(1, total))
    left = format_duration(round(1000 * seconds * (total - done) / max(1, done)))
    rate = format_bytes(round(count / max(seconds, 0.001)))
    return f"{task.description}: {percent} %, {format_bytes(count)}, {rate}/s, {left} left"
