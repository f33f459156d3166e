"""Where files lie and what they are called. Pure: names from values, no directory is looked at.

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
REBUILT = ".replay"
"""What a replay's partials end with, so that no archiver takes them for its own."""
ID = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
STEM = r"[0-9-]{1,30}_[0-9]{3,12}"
FILE = rf"[0-9]{{5}}/{ID}/{STEM}\.g3"
"""A file's path below the data directory."""
GROUP = re.compile(r"[A-Za-z0-9._-]{1,200}")
"""What a consumer group may be called; so that it may be a file's name."""
LATEST_START = 9_999_999_999
"""Seconds since the epoch; the layout has ten digits."""
EARLIEST_SESSION = 1_000_000_000
"""Readers find a session's files by the first five of its ten digits."""
MAX_NUMBER = 10**9
"""Of a file's name: 19,000 years of files of ten minutes."""


class NameFormat(StrEnum):
    """How a file's name says its acquisition's start: 2019-01-01-12-00-00, or 1546344000; or its session_id."""

    DATE = "date"
    CTIME = "ctime"
    SESSION = "session"


def start_second(time_ms: int) -> int:
    """The start, in s, of an acquisition whose first frame came at `time_ms` ms; within what the layout can name."""
    return min(max(time_ms // 1000, 0), LATEST_START)


def file_path(start_s: int, stream_id: str, number: int, name_format: NameFormat) -> str:
    """A file's path below the data directory. start_s: s since the epoch, as `start_second` gives it."""
    return f"{start_s:010d}"[:5] + f"/{stream_id}/{_stem(start_s, number, name_format)}.g3"


class FileName(NamedTuple):
    """A file's path, read. start_s: s since the epoch. name_format: CTIME of names by session, too; they look
    alike."""

    start_s: int
    id: str
    number: int
    name_format: NameFormat


@lru_cache(maxsize=4096)  # strptime takes 10 us, and a stream's checkpoints name the same few
def parse_path(path: str) -> FileName | None:
    """What that path says, if it is one that `file_path` gives: with a time that there is, in its directory."""
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
    """The name of a file while it is being recorded: all that is left of it to know, if its state is lost.

    path: the one that it will have. first_ms: its first frame's time. random: 8 hex digits.
    """

    path: str
    first_ms: int
    random: str

    def __str__(self) -> str:
        return self.path.removesuffix(".g3").replace("/", ".") + f".{self.first_ms}.{self.random}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The name, if it is a partial's."""
        match = _PARTIAL.fullmatch(name)
        if match is None:
            return None
        partial = cls(f"{match[1]}/{match[2]}/{match[3]}.g3", int(match[4]), match[5])
        usable = parse_path(partial.path) and -(2**63) <= partial.first_ms < 2**63
        return partial if usable and str(partial) == name else None


def start_and_number(path: str) -> tuple[int, int]:
    """The acquisition's start, in s, and the number that a file's path says. Raises ValueError if it says none."""
    said, _, number = path.rpartition("/")[2].removesuffix(".g3").rpartition("_")
    if "-" in said:
        return int(datetime.strptime(said, _DATE).replace(tzinfo=UTC).timestamp()), int(number)
    return int(said), int(number)


def _stem(start_s: int, number: int, name_format: NameFormat) -> str:
    if name_format is not NameFormat.DATE:
        return f"{start_s}_{number:03d}"
    return f"{datetime.fromtimestamp(start_s, UTC):{_DATE}}_{number:03d}"


_DATE = "%Y-%m-%d-%H-%M-%S"
_PATH = re.compile(rf"([0-9]{{5}})/({ID})/([0-9-]{{1,30}})_[0-9]{{3,12}}\.g3")
_PARTIAL = re.compile(rf"([0-9]{{5}})\.({ID})\.({STEM})\.(-?[0-9]{{1,19}})\.([0-9a-f]{{8}})")
