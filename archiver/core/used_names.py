"""The names used so far, so that no name is used twice and a session's files are numbered without a gap. Pure.

Names by date or ctime need only the latest one: a start that is repeated, because a clock was set back, gets a number
above all others. A session's files must be numbered from 000 without a gap, whatever is recorded between them. So the
latest sessions are remembered one by one, each with its highest recorded frame_num, as a sender sends its latest
metadata frames again on each connection. Earlier sessions are remembered as ranges of time: one session whose clock
was ahead must not make all later ones look as if they had been recorded before.
"""

from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from archiver.core.paths import EARLIEST_SESSION, LATEST_START, MAX_NUMBER

Start = Annotated[int, Meta(ge=0, le=LATEST_START)]
Used = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
UsedNumber = Annotated[int, Meta(ge=-1, le=MAX_NUMBER)]
_MAX_NUM = 2**48
FrameNum = Annotated[int, Meta(ge=-_MAX_NUM, le=_MAX_NUM)]

SESSIONS_REMEMBERED = 4
"""42 characters each at most, twice in what is committed (checkpoint.MAX_CHARACTERS)."""
RANGES_REMEMBERED = 3
"""24 characters each, twice: for the right time, for a clock that was ahead, and for one that was behind."""

Range = tuple[Start, Start]


class RecentSession(Struct, frozen=True, array_like=True):
    """A session that was used for names, or a ctime that looks like one."""

    start: Start
    """Its session_id."""
    number: UsedNumber = -1
    """Of its last file; -1 if it has none."""
    num: FrameNum | None = None
    """Its highest recorded frame_num, while another session is the current one (segmentation.State.session)."""


class Names(Struct, frozen=True, omit_defaults=True):
    """The names that a stream's files have used."""

    newest: Used = -1
    """The latest start of any acquisition, in s."""
    start: Used = -1
    """Of the last file, in s."""
    number: UsedNumber = -1
    """Of the last file."""
    highest: UsedNumber = -1
    """The highest number of any file."""
    sessions: tuple[RecentSession, ...] = ()
    """With names by session: the last few that were used, the latest one last."""
    past: tuple[Range, ...] = ()
    """The ranges, in order, that contain all sessions that were in `sessions` once."""


def is_session(session: int | None) -> bool:
    """Whether a session_id can name files: it must have ten digits."""
    return session is not None and EARLIEST_SESSION <= session <= LATEST_START


def number_of_start(names: Names, start: int) -> int:
    """The number of an acquisition's first file, with names by date or ctime."""
    if start == names.start:
        return names.number + 1
    return 0 if start > names.newest else names.highest + 1


def number_of_session(names: Names, start: int) -> int:
    """The number of a session's next file."""
    known = find(names, start)
    if known:
        return known.number + 1
    return names.highest + 1 if any(first <= start <= last for first, last in names.past) else 0


def find(names: Names, start: int | None) -> RecentSession | None:
    """Find a session; None if it isn't remembered."""
    return next((known for known in names.sessions if known.start == start), None)


def with_file(names: Names, start: int, number: int, *, in_sessions: bool) -> Names:
    """The names after a file has used this one; in_sessions: by session."""
    after = Names(max(names.newest, start), start, number, max(names.highest, number), names.sessions, names.past)
    return _numbered(after, start, number) if in_sessions else after


def with_name_taken(names: Names, start: int, number: int, *, in_digits: bool) -> Names:
    """The names after a salvaged file has used this one; in_digits: by session, or by ctime, which looks the same."""
    names = replace(names, newest=max(names.newest, start), highest=max(names.highest, number))
    return _numbered(names, start, number) if in_digits else names


def with_session(names: Names, session: int | None, num: int) -> Names:
    """The names with `num` as the highest recorded frame_num of a session that is no longer the current one."""
    if session is None or not is_session(session) or abs(num) > _MAX_NUM:
        return names
    return _remembered(names, replace(find(names, session) or RecentSession(session), num=num))


def only_start(names: Names, start: int) -> Names:
    """The names without all other sessions; this one's next number stays the same."""
    sessions = tuple(known for known in names.sessions if known.start == start)
    return replace(names, sessions=sessions, past=tuple(it for it in names.past if it[0] <= start <= it[1]))


def _numbered(names: Names, start: int, number: int) -> Names:
    known = find(names, start) or RecentSession(start)
    return _remembered(names, replace(known, number=max(known.number, number)))


def _remembered(names: Names, session: RecentSession) -> Names:
    """The names with that session as the latest one; if there are too many, the oldest goes to the past."""
    sessions = (*(known for known in names.sessions if known.start != session.start), session)
    gone = sessions[: len(sessions) - SESSIONS_REMEMBERED] if len(sessions) > SESSIONS_REMEMBERED else ()
    past = names.past
    for known in gone:
        past = _including(past, known.start, session.start)
    return replace(names, sessions=sessions[len(gone) :], past=past)


def _including(ranges: tuple[Range, ...], start: int, now: int) -> tuple[Range, ...]:
    """The ranges, in order, extended by that start.

    If there are too many, the two nearest are joined, but not around the current session: those after it are new.
    """
    if any(first <= start <= last for first, last in ranges):
        return ranges
    found = sorted((*ranges, (start, start)))
    while len(found) > RANGES_REMEMBERED:
        gaps = [(first <= now <= last, last - first) for (_, first), (last, _) in pairwise(found)]
        nearest = gaps.index(min(gaps))
        found[nearest : nearest + 2] = [(found[nearest][0], found[nearest + 1][1])]
    return tuple(found)
