"""Log throttle: what recurs at every attempt is logged at once, and then once in a while. Pure: time is a parameter.

For errors that last, of a disk or of Kafka: their first line is news, the next ones only say that it isn't over. (The
flood filter of flood.py is for what comes in bursts: it writes the first five, which here would be five seconds.)
"""


class LogThrottle:
    """The log lines about one failure: at most one in `interval_s` with the same key. Not for several threads."""

    def __init__(self, interval_s: float = 60.0) -> None:
        self._interval_s = interval_s
        self._due_s: dict[str, float] = {}

    def due(self, now_s: float, key: str = "") -> bool:
        """Return whether to write a line now. now_s: monotonic. key: what differs from other lines, if anything."""
        if now_s < self._due_s.get(key, now_s):
            return False
        self._due_s = {other: due_s for other, due_s in self._due_s.items() if now_s < due_s}
        self._due_s[key] = now_s + self._interval_s
        return True

    def reset(self) -> bool:
        """Note that it works again: the next failure is logged at once. Returns whether this one was logged."""
        written, self._due_s = bool(self._due_s), {}
        return written
