"""Up to when an archive is final: never past a frame that isn't in a finished file whose event was handed over."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.core.checkpoint import Base, Checkpoint, Partial
from archiver.core.segmentation import Acquisition, Settings, State
from archiver.suprsync.finalized_until import (
    MARGIN_MS,
    FinalizedUntil,
    Promotion,
    StreamProgress,
    directory_of,
    finalized_until,
)
from tests.unit.archiver.core.test_catalog import FIRST, finished

NOW = 1_700_000_000_000


def until(*streams: StreamProgress) -> int:
    return finalized_until(NOW, streams).time_ms + MARGIN_MS


def test_with_nothing_there_it_goes_with_the_clock() -> None:
    assert finalized_until(NOW, []) == FinalizedUntil(NOW - MARGIN_MS, NOW)
    assert until(StreamProgress("never published")) == NOW


def test_an_open_file_holds_it_at_its_first_frame_whatever_else_has_happened() -> None:
    open_file = StreamProgress("a", open_since_ms=NOW - 60_000, last_ms=NOW - 10, is_connected=True)
    assert until(open_file) == NOW - 60_000
    found = finalized_until(NOW, [open_file, StreamProgress("b", last_ms=NOW - 90_000)])
    assert found.held_by == "a: its file is open"


def test_what_waits_in_kafka_holds_it_also_when_no_file_is_open() -> None:
    waits = StreamProgress("a", waiting_since_ms=NOW - 5_000, last_ms=NOW - 1, is_connected=True)
    assert until(waits) == NOW - 5_000
    assert until(waits, StreamProgress("b", open_since_ms=NOW - 9_000)) == NOW - 9_000
    clock_was_set = StreamProgress("a", open_since_ms=NOW - 5_000, waiting_since_ms=NOW - 7_000)
    assert until(clock_was_set) == NOW - 7_000


def test_a_connected_sender_of_which_nothing_comes_holds_it_as_its_frames_may_wait_in_a_spool() -> None:
    silent = StreamProgress("a", last_ms=NOW - 3_600_000, is_connected=True)
    assert until(silent) == NOW - 3_600_000
    assert finalized_until(NOW, [silent]).held_by == "a: it is connected, and nothing newer has come"


def test_a_sender_whose_connection_was_lost_holds_nothing() -> None:
    assert until(StreamProgress("a", last_ms=NOW - 3_600_000, is_connected=False)) == NOW


def test_a_clock_that_is_ahead_of_ours_does_not_take_it_past_the_time_of_asking() -> None:
    assert until(StreamProgress("a", open_since_ms=NOW + 5_000)) == NOW


@dataclass
class Stream:
    """A stream's records: the first `archived` are recorded, of these the last `open` in the open file; `published`
    are in Kafka, the others in a spool."""

    times: list[int]
    open: int
    archived: int
    published: int
    ends_lost: bool

    def progress(self) -> StreamProgress:
        return StreamProgress(
            "a",
            open_since_ms=self.times[self.archived - self.open] if self.open else None,
            waiting_since_ms=self.times[self.archived] if self.archived < self.published else None,
            last_ms=self.times[self.published - 1] if self.published else None,
            is_connected=self.published > 0 and not self.ends_lost,
        )

    def not_finished(self) -> list[int]:
        return self.times[self.archived - self.open :]


@st.composite
def streams(draw: st.DrawFn) -> Stream:
    gaps = draw(st.lists(st.integers(0, 3_000), min_size=1, max_size=20))
    times, at = [], NOW - sum(gaps)
    for gap in gaps:
        at += gap
        times.append(at)
    published = draw(st.integers(0, len(times)))
    archived = draw(st.integers(0, published))
    opened = draw(st.integers(0, archived))
    ends_lost = published == len(times) and draw(st.booleans())  # nothing is spooled after a lost connection
    if published == 0:
        times = []  # what no record in Kafka describes isn't known
    return Stream(times, opened, archived, published, ends_lost)


@given(st.lists(streams(), max_size=4))
def test_it_is_never_past_anything_that_is_not_finished(found: list[Stream]) -> None:
    reached = until(*(stream.progress() for stream in found))
    for stream in found:
        assert all(reached <= time for time in stream.not_finished())
    assert reached <= NOW


def test_a_time_counts_once_the_events_before_it_have_been_handed_over() -> None:
    promotion, early, late = Promotion(), FinalizedUntil(1, 1), FinalizedUntil(2, 2)
    assert promotion.wants_another
    promotion.add(early, 10)
    assert not promotion.wants_another
    assert promotion.reached(9) is None
    assert promotion.reached(10) == early
    assert promotion.reached(10) is None, "once"
    promotion.add(late, 12)
    assert promotion.reached(None) is None, "another archiver hands over"
    assert promotion.reached(12) is None, "what was found out before that is void"
    assert promotion.wants_another


def test_an_acquisition_that_goes_on_keeps_its_directory_open_between_two_files_too() -> None:
    event = finished(0)
    acquisition = event.checkpoint.state.acquisition
    assert acquisition is None or directory_of(event.checkpoint) is not None
    state = State("a")
    assert directory_of(Checkpoint(state)) is None
    going_on = replace(state, acquisition=replace(_acquisition(), start_s=1_546_344_000))
    assert directory_of(Checkpoint(going_on)) == 15463
    partial = Partial("15462/a/1546299999_000.g3", "0" * 8, 1, 0, 1, FIRST, FIRST, (), Base(0, state))
    assert directory_of(Checkpoint(going_on, partial=partial)) == 15462


def _acquisition() -> Acquisition:
    return Acquisition(0, "a", Settings())
