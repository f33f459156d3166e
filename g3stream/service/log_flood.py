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

WRITTEN_AT_ONCE = 5
"""So many warnings or errors that are alike are written within FLOOD_SECONDS; the next ones are folded."""
INFO_WRITTEN_AT_ONCE = 100
"""The same for INFO lines."""
FLOOD_SECONDS = 10.0
"""So long folded lines are counted at first before the count is written; and so long without one, a flood is over."""
MOST_SECONDS = 60.0
"""In a long flood the counts come ever more rarely, but no more rarely than this."""
MOST_KINDS = 256
"""So many kinds of lines are remembered; the one that came least lately is forgotten, its count written."""

_Kind = tuple[str, int, str, str]


@dataclass(slots=True)
class _Alike:
    """Lines of a kind. Times in s."""

    at_once: int
    """So many are written within FLOOD_SECONDS."""
    written: deque[float] = field(default_factory=deque)
    """When the last of those that were written came, at most `at_once`."""
    last: float = 0.0
    interval: float = 0.0
    """Of the counts; 0: they aren't folded now."""
    since: float = 0.0
    """Of these they are counted."""
    count: int = 0
    latest: str = ""

    @property
    def due(self) -> float:
        """When to write the count: at the end of the interval, or of the flood."""
        return min(self.since + self.interval, self.last + FLOOD_SECONDS)


class Folding:
    """Which lines are to be written, and what stands for those that aren't. Times: s, of any clock that only goes on.

    Bounded in memory. Not for several threads at once.
    """

    def __init__(self) -> None:
        self._kinds: OrderedDict[_Kind, _Alike] = OrderedDict()  # those of the latest lines last
        self._forgotten: list[logging.LogRecord] = []

    def folds(self, record: logging.LogRecord, now: float) -> bool:
        """Whether this line is only counted; if not, it is to be written."""
        if record.levelno < logging.INFO:
            return False
        kind = _kind(record)
        alike = self._kinds.get(kind)
        if alike is None:
            alike = self._kinds[kind] = _Alike(_written_at_once(record.levelno))
            if len(self._kinds) > MOST_KINDS:
                oldest, forgotten = self._kinds.popitem(last=False)
                self._forgotten += _counted(oldest, forgotten, now)
        else:
            self._kinds.move_to_end(kind)
        alike.last = now
        if not alike.interval:
            if len(alike.written) < alike.at_once or now - alike.written[0] >= FLOOD_SECONDS:
                if len(alike.written) == alike.at_once:
                    alike.written.popleft()
                alike.written.append(now)
                return False
            alike.interval, alike.since = FLOOD_SECONDS, now
        alike.count += 1
        # Not the record: an exception among its arguments would keep its frames, and so their frames' data.
        alike.latest = record.getMessage()
        return True

    def due(self) -> float | None:
        """When `counts` has something to do; None: not until another line is folded."""
        if self._forgotten:
            return 0.0
        return min((alike.due for alike in self._kinds.values() if alike.interval), default=None)

    def counts(self, now: float) -> list[logging.LogRecord]:
        """The lines to be written by now for those that were folded."""
        lines, self._forgotten = self._forgotten, []
        for kind, alike in list(self._kinds.items()):
            if not alike.interval or now < alike.due:
                continue
            lines += _counted(kind, alike, now)
            if alike.count <= alike.at_once or now - alike.last >= FLOOD_SECONDS:
                del self._kinds[kind]  # it is over
                continue
            alike.interval = min(2 * alike.interval, MOST_SECONDS)
            alike.since, alike.count = now, 0
        return lines

    def all_counts(self, now: float) -> list[logging.LogRecord]:
        """The lines for all that were folded and not told yet; as at the end."""
        lines, self._forgotten = self._forgotten, []
        for kind, alike in self._kinds.items():
            lines += _counted(kind, alike, now)
        self._kinds.clear()
        return lines


def _written_at_once(level: int) -> int:
    return WRITTEN_AT_ONCE if level >= logging.WARNING else INFO_WRITTEN_AT_ONCE


def _kind(record: logging.LogRecord) -> _Kind:
    template = str(record.msg)
    named = template.startswith("%s") and isinstance(record.args, tuple) and record.args
    about = str(named[0])[:200] if named else ""
    return record.name, record.levelno, template, about


def _counted(kind: _Kind, alike: _Alike, now: float) -> list[logging.LogRecord]:
    """The line that stands for those that were folded, if any were."""
    if not alike.count:
        return []
    logger, level, template, about = kind
    seconds = max(1, round(now - alike.since))
    text = f"… {alike.count} more like this in the last {seconds} s: {alike.latest}"
    return [
        logging.makeLogRecord(
            {
                "name": logger,
                "levelno": level,
                "levelname": logging.getLevelName(level),
                "msg": text,
                "stream": about if template.startswith("%s: ") else "",
                "count": alike.count,
            }
        )
    ]
