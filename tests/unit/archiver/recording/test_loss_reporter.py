"""Successive losses are published together, and each counts once, whatever is committed, fails or is killed."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from archiver.core.events import FirstLoss, RecordsLost, decode, encode
from archiver.event_counters import EventCounters
from archiver.recording.loss_reporter import merge_losses
from g3stream.contract.sequence import LossCause

STREAM = "crate1slot2"
NOW = 1_546_344_000_000


def lost(number: int, at: int, cause: LossCause = LossCause.MISSING, records: int | None = 2) -> RecordsLost:
    """Return the number-th loss of a stream, noticed at that time, in ms from NOW."""
    return RecordsLost("archiver", STREAM, records, f"a:{number}", 10 * number, NOW + at - 5, NOW + at, "host", cause)


@st.composite
def losses(draw: st.DrawFn) -> list[RecordsLost]:
    """Of several causes, at times that may go back."""
    found = []
    at = 0
    for number in range(draw(st.integers(0, 30))):
        at += draw(st.sampled_from([0, 10, 1000, 59_000, 60_001, -3000]))
        cause, records = draw(
            st.sampled_from([(LossCause.MISSING, 2), (LossCause.MISSING, None), (LossCause.SPOOL, None)])
        )
        found.append(lost(number, at, cause, records))
    return found


def test_one_loss_is_published_as_before() -> None:
    assert merge_losses([lost(0, 0)]) == [lost(0, 0)]
    assert merge_losses([]) == []


def test_losses_in_a_row_are_one_event_with_the_key_of_the_first() -> None:
    [event] = merge_losses([lost(n, 10 * n) for n in range(20_000) if 10 * n < 60_000])
    assert (event.times, event.records, event.key) == (6000, 12_000, lost(0, 0).key)
    assert (event.since, event.until, event.offset) == (NOW - 5, NOW + 59_990, 59_990)
    assert event.first == FirstLoss(0, NOW, "a:0")
    assert event.what == "6000 losses, from a:0 to a:5999"
    assert decode(encode(event)) == event


def test_losses_of_another_cause_or_a_minute_later_are_another_event() -> None:
    apart = [
        lost(0, 0),
        lost(1, 10, LossCause.INCOMPLETE),
        lost(2, 20, LossCause.INCOMPLETE, None),
        lost(3, 60_021, LossCause.INCOMPLETE, None),
        lost(4, 0, LossCause.INCOMPLETE, None),
    ]
    assert merge_losses(apart) == apart


def test_an_event_of_before_is_read() -> None:
    old = b'{"event":"loss","group":"g","stream":"s","records":1,"what":"x","offset":1,"since":null,"until":1,'
    event = decode(old + b'"host":"h"}')
    assert isinstance(event, RecordsLost)
    assert (event.times, event.first) == (1, None)


def test_an_event_begins_at_the_same_losses_wherever_the_one_before_began() -> None:
    """Published to the end, and killed before the commit: then a commit is made between them."""
    found = [lost(n, 20_000 * n) for n in range(9)]
    killed = {event.key: event for event in merge_losses(found)}
    again = {event.key: event for event in (*merge_losses(found[:2]), *merge_losses(found[2:]))}
    assert sum(event.times for event in (killed | again).values()) == len(found)


@given(losses(), st.data())
def test_each_counts_once_through_kills_and_commits_that_fail(
    found: Sequence[RecordsLost], data: st.DataObject
) -> None:
    """Of each key the last event counts; and so does what an archiver that isn't killed counts of itself."""
    last: dict[str, RecordsLost] = {}
    counters = EventCounters()
    killed = False
    committed = read = 0
    while committed < len(found):
        read = data.draw(st.integers(max(read, committed + 1), len(found)), label="read")
        for event in merge_losses(found[committed:read]):
            last[event.key] = event
            counters.on_published(event)
        what = data.draw(st.sampled_from(["committed", "failed", "killed"]), label="what")
        if what == "committed":
            committed = read
        elif what == "killed":
            read, killed = 0, True
    assert sum(event.times for event in last.values()) == len(found)
    assert sum(event.records or 0 for event in last.values()) == sum(loss.records or 0 for loss in found)
    if not killed:
        assert sum(counters.losses.values()) == len(found)
        assert sum(counters.lost_records.values()) == sum(loss.records or 0 for loss in found)
