"""Which events are handed over, in what order, and from where on after a restart."""

from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.archive.archive_settings import initialize
from archiver.archive.location import Location
from archiver.core.checkpoint import ArchiveMark, Checkpoint
from archiver.core.events import FileFinished, encode
from archiver.core.segmentation import State
from archiver.handover.delivery import RETRIES
from archiver.handover.position import StartPosition
from archiver.handover.schedule import (
    LATE_S,
    MAX_WAITING,
    FollowerStatus,
    PendingEvents,
    concerns,
    group_of,
)
from archiver.handover.sink import PendingEvent
from archiver.kafka.saved_position import NoPosition, SavedPosition, resume_offset
from tests.unit.archiver.core.test_catalog import SALVAGED, finished, lost

AT_5 = SavedPosition(5, 1, "archiver/s/path")
OURS, OTHER = "0123456789abcdef", "f" * 16


def of_archive(archive_id: str) -> FileFinished:
    return finished(0, checkpoint=Checkpoint(State("crate1slot2"), archive=ArchiveMark(archive_id)))


def pending(offset: int) -> PendingEvent:
    event = finished(offset)
    return PendingEvent(event, encode(event), offset, 1_000 + offset)


def test_events_of_the_archive_are_handed_over_and_no_others() -> None:
    brought_here = "a" * 16
    for event in (of_archive(OURS), of_archive(brought_here), lost(7, 7), SALVAGED):
        assert concerns(event, "archiver", [OURS, brought_here])
    assert concerns(finished(0), "archiver", [OURS]), "of before archives had ids"
    assert not concerns(of_archive(OTHER), "archiver", [OURS])
    for event in (of_archive(OURS), replace(SALVAGED, group="second"), lost(7, 7, group="second")):
        assert not concerns(replace(event, group="second"), "archiver", [OURS])


def test_a_position_is_of_a_sink_and_an_archive() -> None:
    assert group_of("archiver", "on-file", OURS) == f"archiver.on-file.{OURS}"


def test_attempts_come_ever_more_rarely_but_for_ever() -> None:
    delays = list(accumulate(range(1999), lambda delay, _: RETRIES.delay_s(delay, 1e9), initial=0.0))[1:]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays == sorted(delays)
    assert delays[-1] == 60


@given(st.lists(st.sampled_from(["ours", "another's", "done", "failed", "restart"]), max_size=60))
def test_whatever_happens_each_event_is_handed_over_in_order_and_none_is_left_out(course: list[str]) -> None:
    """A restart may come at any time, with what is committed then: nothing is done out of order, or never."""
    topic: list[bool] = []  # whether each record is an event of ours
    handed_over: list[int] = []
    committed = 0
    queue = PendingEvents(committed)
    for step in [*course, "restart", *["done"] * len(course)]:
        if step in ("ours", "another's"):
            topic.append(step == "ours")
            queue.add(len(topic) - 1, pending(len(topic) - 1) if topic[-1] else None)
        elif step == "restart":
            queue = PendingEvents(committed)
            for offset in range(committed, len(topic)):
                queue.add(offset, pending(offset) if topic[offset] else None)
        elif first := queue.first:
            if step == "failed":
                assert queue.first == pending(first.offset), "it stays the first"
            else:
                handed_over.append(queue.acknowledge())
                committed = queue.position
        assert queue.backlog(len(topic)) == sum(topic[queue.position :])
    assert handed_over == [offset for offset, ours in enumerate(topic) if ours]
    assert queue.position == len(topic)


def test_what_has_not_been_read_yet_counts_too() -> None:
    queue = PendingEvents(5)
    assert (queue.backlog(9), queue.backlog(0)) == (4, 0)
    for offset in range(5, 5 + MAX_WAITING):
        assert not queue.is_full
        queue.add(offset, pending(offset))
    assert queue.is_full
    assert queue.backlog(5 + MAX_WAITING + 7) == MAX_WAITING + 7
    queue.acknowledge()
    assert not queue.is_full


def test_records_of_before_a_seek_are_not_taken_twice() -> None:
    queue = PendingEvents(5)
    for offset in (3, 5, 5, 4, 6):
        queue.add(offset, pending(offset))
    assert queue.backlog(0) == 2


@pytest.mark.parametrize(
    ("status", "warning"),
    [
        (FollowerStatus("s"), None),
        (FollowerStatus("s", active=True, backlog=2, oldest_ms=990_000), None),
        (FollowerStatus("s", backlog=2, oldest_ms=600_000), "s: 2 events waiting, the oldest for 400 s"),
        (
            FollowerStatus("s", backlog=1, oldest_ms=999_000, error="exit code 1"),
            "s: 1 event waiting, the oldest for 1 s: exit code 1",
        ),
        (
            FollowerStatus("s", backlog=1, running_since=50.0 - LATE_S),
            "s: has been running for 350 s, 1 event waiting",
        ),
        (FollowerStatus("s", refused="no"), "s: no"),
    ],
)
def test_a_warning_says_what_waits_for_what(status: FollowerStatus, warning: str | None) -> None:
    assert status.warning(1000.0, 100.0) == warning


@pytest.mark.parametrize(
    ("committed", "saved", "there", "end", "start"),
    [
        (None, None, None, 9, NoPosition.NEVER_DELIVERED),
        (7, None, None, 9, 7),
        (7, AT_5, AT_5, 9, 7),
        (None, AT_5, AT_5, 9, 5),
        (7, AT_5, None, 9, 7),
        (None, AT_5, None, 9, 5),
        (7, AT_5, replace(AT_5, time_ms=2), 9, NoPosition.TOPIC_RECREATED),
        (None, AT_5, replace(AT_5, key="another"), 9, NoPosition.TOPIC_RECREATED),
        (7, AT_5, None, 5, NoPosition.TOPIC_RECREATED),
    ],
)
def test_where_a_follower_goes_on(
    committed: int | None, saved: SavedPosition | None, there: SavedPosition | None, end: int, start: int | NoPosition
) -> None:
    assert resume_offset(committed, saved, there, end) == start


def test_a_note_of_the_position_is_read_back_and_one_that_is_none_is_refused(tmp_path: Path) -> None:
    location = Location(tmp_path)
    start = StartPosition(location, "on-file", {}, "archiver", 0)
    assert start.load() is None
    initialize(Location(tmp_path), None)
    assert start.load() is None
    start.save(pending(4))
    event = finished(5, group="the \N{GREEK SMALL LETTER MU}")
    start.save(PendingEvent(event, b"", 5, 1))
    assert start.load() == SavedPosition(5, 1, event.key)
    (tmp_path / ".archiver" / "on-file.position.0123abcd").touch()  # of a save that was killed
    start.remove_leftovers()
    assert [path.name for path in (tmp_path / ".archiver").iterdir()] == ["on-file.position"]
    (tmp_path / ".archiver" / "on-file.position").write_text("{}")
    with pytest.raises(OSError, match=r"on-file.position can't be understood"):
        start.load()
