"""Floods of log lines that are alike, folded into a count: which are written, and what stands for the others (pure).

A sender gone mad gives thousands of warnings a second, a failing disk an error at every attempt. What is worth
reading then is the first few, how many more came, and the latest.

Alike are lines of one logger, level and template, and of one stream (by this code's custom the first argument of a
template that begins with %s), whatever their other arguments. Of INFO lines, which tell of events such as a file
finished, many more are written before they are folded: a sender may give 7,000 START and END a second. No line goes
uncounted, LOST lines neither: those that were written and the counts add up to what happened (and each loss is an
event in g3.files, besides).
"""

import logging
from collections import OrderedDict, deque
from dataclasses import dataclass, field

MAX_WRITTEN = 5
"""So many warnings or errors that are alike are written within FLOOD_SECONDS; the next ones are folded."""
MAX_INFO_WRITTEN = 100
"""The same for INFO lines."""
FLOOD_SECONDS = 10.0
"""So long folded lines are counted at first before the count is written; and so long without one, a flood is over."""
MAX_INTERVAL_SECONDS = 60.0
"""In a long flood the counts come ever more rarely, but no more rarely than this."""
MAX_KEYS = 256
"""So many kinds of lines are remembered; the one that came least lately is forgotten, its count written."""

_Key = tuple[str, int, str, str]


@dataclass(slots=True)
class _SimilarLines:
    """Lines of a kind. Times in s."""

    max_written: int
    """So many are written within FLOOD_SECONDS."""
    written: deque[float] = field(default_factory=deque)
    """When the last of those that were written came, at most `max_written`."""
    last_s: float = 0.0
    interval_s: float = 0.0
    """Of the counts; 0: they aren't folded now."""
    since_s: float = 0.0
    """Of these they are counted."""
    count: int = 0
    latest: str = ""

    @property
    def due_s(self) -> float:
        """When to write the count: at the end of the interval, or of the flood."""
        return min(self.since_s + self.interval_s, self.last_s + FLOOD_SECONDS)


class LogFloodFilter:
    """Which lines are to be written, and what stands for those that aren't. Times: s, of any clock that only goes on.

    Bounded in memory. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[_Key, _SimilarLines] = OrderedDict()  # those of the latest lines last
        self._evicted: list[logging.LogRecord] = []

    def suppresses(self, record: logging.LogRecord, now_s: float) -> bool:
        """Whether this line is only counted; if not, it is to be written."""
        if record.levelno < logging.INFO:
            return False
        key = _key(record)
        lines = self._lines.get(key)
        if lines is None:
            lines = self._lines[key] = _SimilarLines(_limit_of(record.levelno))
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
        # Not the record: an exception among its arguments would keep its frames, and so their frames' data.
        lines.latest = record.getMessage()
        return True

    def next_due(self) -> float | None:
        """When `due_summaries` has something to do; None: not until another line is folded."""
        if self._evicted:
            return 0.0
        return min((lines.due_s for lines in self._lines.values() if lines.interval_s), default=None)

    def due_summaries(self, now_s: float) -> list[logging.LogRecord]:
        """The lines to be written by now for those that were folded."""
        summaries, self._evicted = self._evicted, []
        for key, lines in list(self._lines.items()):
            if not lines.interval_s or now_s < lines.due_s:
                continue
            summaries += _summary(key, lines, now_s)
            if lines.count <= lines.max_written or now_s - lines.last_s >= FLOOD_SECONDS:
                del self._lines[key]  # it is over
                continue
            lines.interval_s = min(2 * lines.interval_s, MAX_INTERVAL_SECONDS)
            lines.since_s, lines.count = now_s, 0
        return summaries

    def all_summaries(self, now_s: float) -> list[logging.LogRecord]:
        """The lines for all that were folded and not told yet; as at the end."""
        summaries, self._evicted = self._evicted, []
        for key, lines in self._lines.items():
            summaries += _summary(key, lines, now_s)
        self._lines.clear()
        return summaries


def _limit_of(level: int) -> int:
    return MAX_WRITTEN if level >= logging.WARNING else MAX_INFO_WRITTEN


def _key(record: logging.LogRecord) -> _Key:
    template = str(record.msg)
    named = template.startswith("%s") and isinstance(record.args, tuple) and record.args
    about = str(named[0])[:200] if named else ""
    return record.name, record.levelno, template, about


def _summary(key: _Key, lines: _SimilarLines, now_s: float) -> list[logging.LogRecord]:
    """The line that stands for those that were folded, if any were."""
    if not lines.count:
        return []
    logger, level, template, about = key
    seconds = max(1, round(now_s - lines.since_s))
    text = f"… {lines.count} more like this in the last {seconds} s: {lines.latest}"
    return [
        logging.makeLogRecord(
            {
                "name": logger,
                "levelno": level,
                "levelname": logging.getLevelName(level),
                "msg": text,
                "stream": about if template.startswith("%s: ") else "",
                "count": lines.count,
            }
        )
    ]
