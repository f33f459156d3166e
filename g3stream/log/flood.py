"""Filter of similar log lines: the first are written, a flood of others is counted in summary lines. Pure.

A broken sender causes thousands of warnings a second, a failing disk an error at every attempt. Worth reading are
then the first few, how many more followed, and the latest.

Lines are similar if they have the same logger, level and template, and the same stream (by convention the first
argument of a template that begins with %s), whatever their other arguments. Of INFO lines, which report events such
as a finished file, many more are written before any is suppressed: a sender may send 7,000 START and END a second.
Every line is counted, LOST lines too: the written lines and the counts add up to what happened (and each loss is an
event on g3.files as well).
"""

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_WRITTEN = 5
"""How many similar warnings or errors are written within FLOOD_SECONDS; further ones are suppressed."""
MAX_INFO_WRITTEN = 100
"""The same for INFO lines."""
FLOOD_SECONDS = 10.0
"""The time until the first summary of a flood; and a flood is over after this time without a similar line."""
MAX_INTERVAL_SECONDS = 60.0
"""The longest time between summaries: in a long flood the time doubles up to this."""
MAX_KEYS = 256
"""How many kinds of lines are remembered; the least recent kind is forgotten, and its summary written."""

_Key = tuple[str, int, str, str]


@dataclass(slots=True)
class _SimilarLines:
    """The state of one kind of lines. Times: seconds."""

    max_written: int
    """How many are written within FLOOD_SECONDS."""
    written: deque[float] = field(default_factory=deque)
    """The times of the latest written lines, `max_written` at most."""
    last_s: float = 0.0
    """The time of the latest line, written or suppressed."""
    interval_s: float = 0.0
    """The present time between summaries; 0: lines aren't suppressed now."""
    since_s: float = 0.0
    """The time since which suppressed lines are counted."""
    count: int = 0
    """Lines suppressed since then."""
    latest: str = ""
    """The text of the latest suppressed line."""

    @property
    def due_s(self) -> float:
        """The time to write the summary: the end of the interval, or of the flood."""
        return min(self.since_s + self.interval_s, self.last_s + FLOOD_SECONDS)


class LogFloodFilter:
    """The decision which lines are written, and the summaries of the others.

    Times are seconds of any monotonic clock. Memory is bounded. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[_Key, _SimilarLines] = OrderedDict()  # the most recent kind last
        self._evicted: list[logging.LogRecord] = []

    def suppresses(self, record: logging.LogRecord, now_s: float) -> bool:
        """Count a line; return True if it is suppressed, False if it is to be written."""
        if record.levelno < logging.INFO:
            return False
        key = _key(record)
        lines = self._lines.get(key)
        if lines is None:
            limit = MAX_WRITTEN if record.levelno >= logging.WARNING else MAX_INFO_WRITTEN
            lines = self._lines[key] = _SimilarLines(limit)
            if len(self._lines) > MAX_KEYS:
                oldest, forgotten = self._lines.popitem(last=False)
                self._evicted += _summary(oldest, forgotten, now_s)
        else:
            self._lines.move_to_end(key)
        lines.last_s = now_s
        if not lines.interval_s:
            if len(lines.written) < lines.max_written or now_s - lines.written[0] >= FLOOD_SECONDS:
                if len(lines.written) == lines.max_written:
                    lines.written.popleft()
                lines.written.append(now_s)
                return False
            lines.interval_s, lines.since_s = FLOOD_SECONDS, now_s
        lines.count += 1
        # Not the record: an exception among its arguments would keep its stack frames, and their data.
        lines.latest = record.getMessage()
        return True

    def next_due(self) -> float | None:
        """Return when `summaries` is to be called next; None: not until another line is suppressed."""
        if self._evicted:
            return 0.0
        return min((lines.due_s for lines in self._lines.values() if lines.interval_s), default=None)

    def summaries(self, now_s: float, *, all_of_them: bool = False) -> list[logging.LogRecord]:
        """Return the summaries that are due now; at the end of the program, all of them."""
        summaries, self._evicted = self._evicted, []
        for key, lines in list(self._lines.items()):
            if not lines.interval_s or (now_s < lines.due_s and not all_of_them):
                continue
            summaries += _summary(key, lines, now_s)
            if all_of_them or lines.count <= lines.max_written or now_s - lines.last_s >= FLOOD_SECONDS:
                del self._lines[key]  # the flood is over
                continue
            lines.interval_s = min(2 * lines.interval_s, MAX_INTERVAL_SECONDS)
            lines.since_s, lines.count = now_s, 0
        return summaries


def _key(record: logging.LogRecord) -> _Key:
    template = str(record.msg)
    named = template.startswith("%s") and isinstance(record.args, tuple) and record.args
    about = str(named[0])[:200] if named else ""
    return record.name, record.levelno, template, about


def _summary(key: _Key, lines: _SimilarLines, now_s: float) -> list[logging.LogRecord]:
    """Return the summary line of suppressed lines, if there are any."""
    if not lines.count:
        return []
    logger, level, template, about = key
    seconds = max(1, round(now_s - lines.since_s))
    text = f"… {lines.count} more like this in the last {seconds} s: {lines.latest}"
    stream = about if template.startswith("%s: ") else ""
    return [make_line(logger, level, text, stream=stream, count=lines.count)]


def make_line(logger: str, level: int, text: str, **extra: object) -> logging.LogRecord:
    """Return a log record that stands for others. extra: as with logging.Logger.log."""
    levelname = logging.getLevelName(level)
    return logging.makeLogRecord({"name": logger, "levelno": level, "levelname": levelname, "msg": text, **extra})
