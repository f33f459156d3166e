"""The layout of an archive: paths and names of its files. Pure: no directory is read.

<data-dir>/<first 5 of the 10 digits of the acquisition's start>/<id>/<start>_<NNN>.g3
                                                          start: its first frame's time, or its session_id
<data-dir>/.archiver/<stream>/<5 digits>.<id>.<start>_<NNN>.<first>.<random>    while it is recorded
"""

import re
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Self

PRIVATE_DIRECTORY = ".archiver"
SUMS = "SHA256SUMS"
CATALOG = "catalog.sqlite"
"""The catalog's file in the private directory. It has a dot in its name, which no stream has."""
REBUILT = ".replay"
"""The suffix of a replay's partials, so that no archiver takes them for its own."""
ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
STEM = r"[0-9-]{1,30}_[0-9]{3,12}"
FILE = rf"[0-9]{{5}}/{ID}/{STEM}\.g3"
"""A finished file's path below the data directory."""
GROUP = re.compile(r"[A-Za-z0-9._-]{1,200}")
"""A consumer group's name, restricted so that it can be a file's name."""
LATEST_START = 9_999_999_999
"""Seconds since the epoch; the layout has ten digits."""
EARLIEST_SESSION = 1_000_000_000
"""Readers find a session's files by the first five of its ten digits."""
MAX_NUMBER = 10**9
"""The highest number in a file's name: 19,000 years of files of ten minutes."""


class NameFormat(StrEnum):
    """How a file's name gives its acquisition's start: 2019-01-01-12-00-00, or 1546344000; or its session_id."""

    DATE = "date"
    CTIME = "ctime"
    SESSION = "session"


def start_second(time_ms: int) -> int:
    """The start, in s, of an acquisition whose first frame was received at `time_ms`; limited to ten digits."""
    return min(max(time_ms // 1000, 0), LATEST_START)


def file_path(start_s: int, stream_id: str, number: int, name_format: NameFormat) -> str:
    """Format a file's path below the data directory; start_s: as `start_second` returns it."""
    return f"{start_s:010d}"[:5] + f"/{stream_id}/{_stem(start_s, number, name_format)}.g3"


class FileName(NamedTuple):
    """The parts of a file's path."""

    start_s: int
    """In s since 1970."""
    id: str
    number: int
    name_format: NameFormat
    """CTIME also for names by session: they look alike."""


@lru_cache(maxsize=4096)  # it takes 5 us, and a stream's checkpoints name the same few
def parse_path(path: str) -> FileName | None:
    """Parse a path; None unless `file_path` can return it: a valid time, in the right directory."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    name_format = NameFormat.DATE if "-" in match[3] else NameFormat.CTIME
    try:
        start_s, number = start_and_number(path)
    except (ValueError, OverflowError):
        return None
    if not (0 <= start_s <= LATEST_START and number <= MAX_NUMBER):
        return None
    found = FileName(start_s, match[2], number, name_format)
    return found if file_path(*found) == path else None


class PartialName(NamedTuple):
    """The name of a partial; all that is known of it if its checkpoint is gone."""

    path: str
    """The path that it will have once it is finished."""
    first_ms: int
    """The time of its first frame."""
    random: str
    """8 hex digits."""

    def __str__(self) -> str:
        return self.path.removesuffix(".g3").replace("/", ".") + f".{self.first_ms}.{self.random}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Parse a file name; None if it isn't a partial's."""
        match = _PARTIAL.fullmatch(name)
        if match is None:
            return None
        partial = cls(f"{match[1]}/{match[2]}/{match[3]}.g3", int(match[4]), match[5])
        usable = parse_path(partial.path) and -(2**63) <= partial.first_ms < 2**63
        return partial if usable and str(partial) == name else None


def start_and_number(path: str) -> tuple[int, int]:
    """The acquisition's start, in s, and the number in a file's path. Raises ValueError if it has none."""
    start, _, number = path.rpartition("/")[2].removesuffix(".g3").rpartition("_")
    if "-" in start:
        year, month, day, hour, minute, second = map(int, start.split("-"))  # strptime takes 8 times as long
        return int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()), int(number)
    return int(start), int(number)


def _stem(start_s: int, number: int, name_format: NameFormat) -> str:
    if name_format is not NameFormat.DATE:
        return f"{start_s}_{number:03d}"
    return f"{datetime.fromtimestamp(start_s, UTC):{_DATE}}_{number:03d}"


_DATE = "%Y-%m-%d-%H-%M-%S"
_PATH = re.compile(rf"([0-9]{{5}})/({ID})/([0-9-]{{1,30}})_[0-9]{{3,12}}\.g3")
_PARTIAL = re.compile(rf"([0-9]{{5}})\.({ID})\.({STEM})\.(-?[0-9]{{1,19}})\.([0-9a-f]{{8}})")
