"""When a directory of five digits (a timecode) is complete, and the file that says so, as in socs' SupRsync.

sotodlib's G3tSmurf.index_timecodes reads these files: `<timecode>/suprsync/<instance id>/…_finalized.yaml`, where, as
in socs, <timecode> is that of the time of writing.
"""

from collections.abc import Collection
from typing import Any, Final

SECONDS: Final = 100_000
"""The length of a timecode, which is the first five of ten digits of Unix time."""
DAYS_TO_COMPLETE: Final = 1
"""As socs.db.suprsync.DAYS_TO_COMPLETE_TCDIR: after so many more a timecode is complete although no file follows."""
SUBDIRECTORY: Final = "suprsync"


def timecode_of(seconds: float) -> int:
    """Return the timecode of a time, s since the epoch."""
    return int(seconds // SECONDS)


def is_complete(
    timecode: int, newest: int, now_s: float, finalized_until: float, directories: Collection[int]
) -> bool:
    """Whether no more files are expected in a timecode's directory.

    As in socs: a later one has files, or it is more than a day ago. And, as we know more: everything received up to
    its end is in finished and registered files, and no acquisition continues in it, as one over midnight does.
    newest: the latest timecode with a file, of any archive. now_s, finalized_until: s since the epoch. directories:
    FinalizedUntil.directories.
    """
    is_over = newest > timecode or timecode_of(now_s) - timecode > DAYS_TO_COMPLETE
    return is_over and finalized_until >= (timecode + 1) * SECONDS and timecode not in directories


def file_path(timecode: int, archive_name: str, instance_id: str, now_s: float) -> str:
    """Return the path, relative to the data directory, of the file that says that a timecode is complete."""
    name = f"{int(now_s)}{_ending(timecode, archive_name)}"
    return f"{timecode_of(now_s)}/{SUBDIRECTORY}/{instance_id}/{name}"


def is_file_of(name: str, timecode: int, archive_name: str) -> bool:
    """Whether a file of this name says that the timecode is complete."""
    return name.endswith(_ending(timecode, archive_name)) and name.split("_", 1)[0].isdigit()


def summary(
    timecode: int,
    archive_name: str,
    instance_id: str,
    remote_paths: Collection[str],
    now_s: float,
    finalized_until: float,
) -> dict[str, Any]:
    """Return the file's content, with socs' keys. remote_paths: of the timecode's files."""
    parts = [path.split("/") for path in remote_paths]
    return {
        "timecode": timecode,
        "num_files": len(parts),
        "subdirs": sorted({path[1] for path in parts if len(path) > 2}),
        "finalized_at": now_s,
        "finalized_until": finalized_until,
        "archive_name": archive_name,
        "instance_id": instance_id,
    }


def _ending(timecode: int, archive_name: str) -> str:
    return f"_{archive_name}_{timecode}_finalized.yaml"
