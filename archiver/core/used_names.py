"""What has been used for files' names, so that none is used twice and a session's files go on counting. Pure.

Names by date or ctime need only the latest: a start that comes again, as a clock was set back, gets a number above
all others. A session's files must be numbered from 000 without a hole, whatever comes between them, so the last few
sessions are remembered each by itself; with the highest frame_num that is recorded of each, as a sender sends its
latest frames of metadata again on each connection. Those before them are remembered as the ranges of time in which
they lie: one whose clock was ahead must not make all that follow it look as if they had been there.
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
"""24 characters each, twice: of the time that goes on, of a clock that was ahead, and of one that was behind."""

Range = tuple[Start, Start]


class RecentSession(Struct, frozen=True, array_like=True):
    """A session, or a ctime that stands for one: the number of its last file, -1 if it has none; and, while another
    session is the current one (segmentation.State.session), the highest frame_num of it that is recorded."""

    start: Start
    number: UsedNumber = -1
    num: FrameNum | None = None


class Names(Struct, frozen=True, omit_defaults=True):
    """What has been used for names. newest: the latest start of any acquisition, s; start, number: those of the
    last file; highest: the highest number of any file.

    sessions: of names by session, the last few that were named, the last one last. past: the ranges, in order, in
    which all lie that were among them once.
    """

    newest: Used = -1
    start: Used = -1
    number: UsedNumber = -1
    highest: UsedNumber = -1
    sessions: tuple[RecentSession, ...] = ()
    past: tuple[Range, ...] = ()


def is_session(session: int | None) -> bool:
    """Whether that can name files: the path has ten digits."""
    return session is not None and EARLIEST_SESSION <= session <= LATEST_START


def number_of_start(names: Names, start: int) -> int:
    """The number of an acquisition's first file, by date or ctime."""
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
    """A session, if it is remembered."""
    return next((known for known in names.sessions if known.start == start), None)


def with_file(names: Names, start: int, number: int, *, in_sessions: bool) -> Names:
    """The names after a file was called so. in_sessions: by session."""
    after = Names(max(names.newest, start), start, number, max(names.highest, number), names.sessions, names.past)
    return _numbered(after, start, number) if in_sessions else after


def with_name_taken(names: Names, start: int, number: int, *, in_digits: bool) -> Names:
    """The names, with that of a salvaged file. in_digits: by session, or by ctime, which looks the same."""
    names = replace(names, newest=max(names.newest, start), highest=max(names.highest, number))
    return _numbered(names, start, number) if in_digits else names


def with_session(names: Names, session: int | None, num: int) -> Names:
    """The names, remembering that frame_num as the highest recorded of a session that isn't the current one now."""
    if session is None or not is_session(session) or abs(num) > _MAX_NUM:
        return names
    return _remembered(names, replace(find(names, session) or RecentSession(session), num=num))


def only_start(names: Names, start: int) -> Names:
    """The names without what is remembered of other sessions than that one, whose next number stays what it is."""
    sessions = tuple(known for known in names.sessions if known.start == start)
    return replace(names, sessions=sessions, past=tuple(it for it in names.past if it[0] <= start <= it[1]))


def _numbered(names: Names, start: int, number: int) -> Names:
    known = find(names, start) or RecentSession(start)
    return _remembered(names, replace(known, number=max(known.number, number)))


def _remembered(names: Names, session: RecentSession) -> Names:
    """With that session as the last one; the first goes to the past if there are too many."""
    sessions = (*(known for known in names.sessions if known.start != session.start), session)
    gone = sessions[: len(sessions) - SESSIONS_REMEMBERED] if len(sessions) > SESSIONS_REMEMBERED else ()
    past = names.past
    for known in gone:
        past = _including(past, known.start, session.start)
    return replace(names, sessions=sessions[len(gone) :], past=past)


def _including(ranges: tuple[Range, ...], start: int, now: int) -> tuple[Range, ...]:
    """The ranges, in order, with that start in one of them. Of too many, two become one: the nearest, but not around
    the session that there is now, as those that follow it are new."""
    if any(first <= start <= last for first, last in ranges):
        return ranges
    found = sorted((*ranges, (start, start)))
    while len(found) > RANGES_REMEMBERED:
        gaps = [(first <= now <= last, last - first) for (_, first), (last, _) in pairwise(found)]
        nearest = gaps.index(min(gaps))
        found[nearest : nearest + 2] = [(found[nearest][0], found[nearest + 1][1])]
    return tuple(found)
