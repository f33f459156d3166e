"""Where files lie and what they are called. Pure: names from values, no directory is looked at.

<data-dir>/<first 5 of the 10 digits of the acquisition's start>/<id>/<start>_<NNN>.g3
<data-dir>/.archiver/<stream>/<start>_<NNN>.<random>            a file that is being recorded
"""

from datetime import UTC, datetime
from enum import StrEnum

PRIVATE_DIRECTORY = ".archiver"
SUMS = "SHA256SUMS"
LATEST_START = 9_999_999_999
"""Seconds since the epoch; the layout has ten digits."""


class NameFormat(StrEnum):
    """How a file's name says its acquisition's start: 2019-01-01-12-00-00, or 1546344000."""

    DATE = "date"
    CTIME = "ctime"


def start_second(time: int) -> int:
    """The start, in s, of an acquisition whose first frame came at `time` ms; within what the layout can name."""
    return min(max(time // 1000, 0), LATEST_START)


def file_path(start: int, stream_id: str, number: int, name_format: NameFormat) -> str:
    """A file's path below the data directory. start: s since the epoch, as `start_second` gives it."""
    return f"{start:010d}"[:5] + f"/{stream_id}/{_stem(start, number, name_format)}.g3"


def partial_name(start: int, number: int, name_format: NameFormat, random: str) -> str:
    """The name that the file has while it is being recorded."""
    return f"{_stem(start, number, name_format)}.{random}"


def _stem(start: int, number: int, name_format: NameFormat) -> str:
    if name_format is NameFormat.CTIME:
        return f"{start}_{number:03d}"
    return f"{datetime.fromtimestamp(start, UTC):%Y-%m-%d-%H-%M-%S}_{number:03d}"
