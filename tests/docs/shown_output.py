"""Whether a program printed what a page shows, in which numbers, times and sizes may be others."""

import re
from collections.abc import Sequence

_ANY = "..."
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_DIGEST = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b")
_NUMBER = re.compile(r"[-+]?\d[\d.,:_-]*(T[\d:.]+)?(\s?(B|kB|MB|GB|TB|KiB|MiB|GiB|µs|us|ms|s|min|h|d)\b)?")
_DURATION = re.compile(r"\b\d+ (d|h|min) \d+ (h|min|s)\b")
"""Of two units, which may be one the next time."""
_RULE = re.compile(r"([─━═=_-])\1{2,}")


def is_as_shown(printed: str, shown: Sequence[str], *, begins: bool = False) -> bool:
    """Return whether that was printed. begins: that it begins so is enough. Nothing shown: anything is right."""
    if not shown:
        return True
    pattern = "".join(_any_lines() if line.strip() == _ANY else _line(line) for line in shown if line.strip())
    lines = [loose for line in printed.splitlines() if (loose := _loose(line))]
    text = "".join(f"{line}\n" for line in lines)
    return re.fullmatch(pattern + (_any_lines() if begins else ""), text) is not None


def _any_lines() -> str:
    return r"(?:[^\n]*\n)*?"


def _line(shown: str) -> str:
    parts = shown.replace("…", _ANY).split(_ANY)
    return r"[^\n]*".join(re.escape(_loose(part)) for part in parts) + r"\n"


def _loose(line: str) -> str:
    """Return a line without what may differ."""
    line = _DIGEST.sub("#", _ESCAPES.sub("", line))
    line = _DURATION.sub("0 s", line)
    line = _NUMBER.sub("#", _RULE.sub(r"\1", line))
    return " ".join(line.split())
