"""Every record once and in order, whatever Kafka's client delivers again, and whatever ingest publishes again."""

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.core.checkpoint import MAX_CHARACTERS, Checkpoint, decode, encode
from archiver.core.segmentation import State
from archiver.kafka.delivery_order import DeliveryCheck, is_successor
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.contract.sequence import EPOCHS_REMEMBERED, SequenceTracker, epoch_changes, forgotten_before, roll_back

STREAM = "crate1slot2"


def accepted(deliveries: DeliveryCheck, offsets: Sequence[int]) -> list[int]:
    """Which of these are accepted."""
    return [offset for offset in offsets if deliveries.accept(offset, lambda: False)]


def test_none_is_taken_before_it_is_known_where_to_begin() -> None:
    deliveries = DeliveryCheck(STREAM)
    assert accepted(deliveries, [0, 1]) == []
    deliveries.reset(5)
    assert accepted(deliveries, [5, 6, 7]) == [5, 6, 7]
    assert (deliveries.faults, deliveries.seek_to) == (0, None)


def test_an_earlier_record_is_dropped_and_the_next_one_is_requested() -> None:
    deliveries = DeliveryCheck(STREAM)
    deliveries.reset(100)
    assert accepted(deliveries, [100, 101, 0, 1, 2]) == [100, 101]
    assert (deliveries.seek_to, deliveries.faults) == (102, 1)
    deliveries.on_seek_done()
    assert accepted(deliveries, [102]) == [102]
    assert (deliveries.seek_to, deliveries.faults) == (None, 1)


def test_a_skipped_record_is_asked_for_and_a_hole_that_is_there_again_is_one() -> None:
    deliveries = DeliveryCheck(STREAM)
    deliveries.reset(7)
    assert accepted(deliveries, [9, 10]) == []
    assert (deliveries.seek_to, deliveries.faults) == (7, 0)
    deliveries.on_seek_done()
    assert accepted(deliveries, [7, 8, 9]) == [7, 8, 9]
    assert deliveries.faults == 1, "the client had skipped them"
    assert accepted(deliveries, [12]) == []
    deliveries.on_seek_done()
    assert accepted(deliveries, [12, 13]) == [12, 13]
    assert deliveries.faults == 1, "the topic has none there: a transaction marker, say"


def test_a_hole_before_the_very_next_record_needs_no_second_look() -> None:
    deliveries = DeliveryCheck(STREAM)
    deliveries.reset(7)
    asked = iter([True])
    for offset in (7, 8, 10):  # it is asked only after the hole
        assert deliveries.accept(offset, lambda: next(asked))
    assert list(asked) == []
    assert accepted(deliveries, [11]) == [11]
    assert (deliveries.seek_to, deliveries.faults) == (None, 0)


@pytest.mark.parametrize(
    ("before", "headers", "expected"),
    [
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.QUIET, "a", 5), True),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.QUIET, "a", 6), False),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.QUIET, "a", 4), False),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.LOST, "b", 0, prev=("a", 4)), True),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.LOST, "b", 0, prev=("a", 5)), False),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.QUIET, "b", 0), False),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(1, 3)), True),
        (
            RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(1, 3)),
            RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(2, 3)),
            True,
        ),
        (
            RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(1, 3)),
            RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(3, 3)),
            False,
        ),
        (RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(2, 3)), RecordHeaders(Kind.QUIET, "a", 6), False),
        (RecordHeaders(Kind.FRAME, "a", 5, type=1, chunk=(3, 3)), RecordHeaders(Kind.QUIET, "a", 6), True),
        (RecordHeaders(Kind.QUIET, "a", 4), RecordHeaders(Kind.LOST, "c", 0, prev=("a", 4), operator=True), False),
    ],
)
def test_which_records_have_nothing_between_them(
    before: RecordHeaders, headers: RecordHeaders, expected: bool
) -> None:
    assert is_successor(headers, before) == expected


class CrashLoop(NamedTuple):
    """The records (epoch, seq) of an ingest that was killed many times, and what it published, in order."""

    made: list[tuple[str, int]]
    topic: list[RecordHeaders]


@st.composite
def crash_loops(draw: st.DrawFn, most_epochs: int = 3 * EPOCHS_REMEMBERED) -> CrashLoop:
    """After each start it publishes its spool from the first record that it hasn't removed, until it is killed."""
    random = draw(st.randoms(use_true_random=False))
    made: list[tuple[str, int]] = []
    spool: list[RecordHeaders] = []
    topic: list[RecordHeaders] = []
    published = 0  # so many of `made` are in the topic
    removed = 0
    epoch = None
    for life in range(draw(st.integers(1, most_epochs))):
        now_ms = random.choice([0, 1_796_000_000_000 + life])
        epoch = new_epoch(epoch, now_ms, random.getrandbits(RANDOM_BITS))
        prev = made[-1] if made else None
        for seq in range(random.choice([1, 1, 2, 5])):
            made.append((epoch, seq))
            spool.append(RecordHeaders(Kind.QUIET, epoch, seq, prev=None if seq else prev))
        until = random.choice([removed, removed, random.randint(removed, len(spool)), len(spool)])
        topic += spool[removed:until]
        published = max(published, until)
        if random.random() < 0.02:  # so that the spool may hold more epochs than are remembered
            removed = random.randint(removed, max(removed, until))
    topic += spool[removed:]
    return CrashLoop(made, topic)


@settings(deadline=None, max_examples=60)
@given(crash_loops(), st.data())
def test_every_record_counts_once_whatever_is_delivered_or_published_again(
    loop: CrashLoop, data: st.DataObject
) -> None:
    """With any number of epochs; the archiver is killed, too, and continues from its last commit."""
    random = data.draw(st.randoms(use_true_random=False))
    state = State(STREAM)
    deliveries, seen = DeliveryCheck(STREAM), SequenceTracker()
    deliveries.reset(0)
    got: list[tuple[str, int]] = []
    committed: tuple[int, str, int] = (0, encode(Checkpoint(state)), 0)
    jumps = 20
    at = 0
    while deliveries.next_offset != len(loop.topic):
        offset, headers = at, loop.topic[at]
        at += 1
        if deliveries.accept(offset, lambda: False) and (record := seen.assemble(headers, 0, b"", offset)):
            got.append((record.headers.epoch, record.headers.seq))
            seen.mark_processed(record.headers)
        what = random.random() if jumps else 1.0
        if what < 0.05:  # the client jumps
            jumps -= 1
            at = random.randint(0, len(loop.topic) - 1)
        elif what < 0.1:  # a commit
            assert offset + 1 >= committed[0] or deliveries.seek_to is not None
            text = encode(Checkpoint(state, seen.epochs(), forgotten=seen.forgotten))
            committed = deliveries.next_offset or 0, text, len(got)
        elif what < 0.13:  # a kill
            jumps -= 1
            at, text, have = committed
            found = decode(text, STREAM)
            del got[have:]
            seen = SequenceTracker(found.epochs, found.forgotten)
            deliveries.reset(at)
        elif deliveries.seek_to is not None:  # after a batch
            at = deliveries.seek_to
            deliveries.on_seek_done()
        at = at if at < len(loop.topic) else deliveries.next_offset or 0
    assert got == loop.made
    assert seen.losses == []
    assert seen.interleaved_producers == 0


@settings(deadline=None, max_examples=60)
@given(crash_loops(), st.data())
def test_a_file_that_is_rebuilt_from_its_first_record_has_the_same_records(
    loop: CrashLoop, data: st.DataObject
) -> None:
    """However many epochs have been forgotten since it began."""
    base_at = data.draw(st.integers(0, len(loop.topic)), label="the file begins at")
    until = data.draw(st.integers(base_at, len(loop.topic)), label="it is damaged at")
    seen = SequenceTracker()

    def records(seen: SequenceTracker, first: int, last: int) -> list[tuple[str, int]]:
        found = []
        for offset in range(first, last):
            headers = loop.topic[offset]
            if record := seen.assemble(headers, 0, b"", offset):
                found.append((record.headers.epoch, record.headers.seq))
                seen.mark_processed(headers)
        return found

    records(seen, 0, base_at)
    before = seen.epochs()
    expected = records(seen, base_at, until)
    now = seen.epochs()
    epochs = roll_back(now, epoch_changes(before, now))
    again = SequenceTracker(epochs, forgotten_before(epochs, seen.forgotten))
    assert records(again, base_at, until) == expected
    assert again.losses == []


@pytest.mark.parametrize("count", [EPOCHS_REMEMBERED, 10 * EPOCHS_REMEMBERED])
def test_what_must_be_known_of_epochs_takes_no_more_room_with_more_of_them(count: int) -> None:
    seen, epoch = SequenceTracker(), None
    for n in range(count):
        prev = None if epoch is None else (epoch, 0)
        epoch = new_epoch(epoch, 1_796_000_000_000 + n, n)
        seen.mark_processed(RecordHeaders(Kind.LOST, epoch, 0, prev=prev))
    assert len(encode(Checkpoint(State(STREAM), seen.epochs(), forgotten=seen.forgotten))) < MAX_CHARACTERS / 3
    assert len(seen.forgotten) == (count > EPOCHS_REMEMBERED)


def test_a_checkpoint_that_is_too_long_forgets_epochs_and_not_that_they_were() -> None:
    epoch, epochs = None, []
    for n in range(EPOCHS_REMEMBERED):
        epoch = new_epoch(epoch, 1_796_000_000_000 + n, n)
        epochs.append((epoch, 2**62))
    long = Checkpoint(State("s" * 64), (*((f"{n:016x}", 2**62) for n in range(4 * EPOCHS_REMEMBERED)), *epochs))
    found = decode(encode(long), "s" * 64)
    assert len(found.epochs) < len(long.epochs)
    kept = {e for e, _ in found.epochs}
    seen = SequenceTracker(found.epochs, found.forgotten)
    for name, _ in epochs:
        assert name in kept or seen.assemble(RecordHeaders(Kind.QUIET, name, 5), 0, b"", 9) is None


def test_a_new_spool_with_a_wrong_clock_is_new_however_much_was_forgotten() -> None:
    """A replaced host that believes it is 1970: dropping its records as old would lose a night."""
    seen, epoch = SequenceTracker(), None
    for n in range(2 * EPOCHS_REMEMBERED):
        epoch = new_epoch(epoch, 1_796_000_000_000 + 1000 * n, 7)
        seen.mark_processed(RecordHeaders(Kind.LOST, epoch, 0))
    stranger = new_epoch(None, 0, 8)
    assert seen.assemble(RecordHeaders(Kind.LOST, stranger, 0), 0, b"", 9)


def test_epochs_of_older_versions_have_no_order_and_are_forgotten_as_before() -> None:
    seen = SequenceTracker()
    for n in range(2 * EPOCHS_REMEMBERED):
        seen.mark_processed(RecordHeaders(Kind.LOST, f"{(n * 0x9E3779B97F4A7C15) % 2**64:016x}", 0))
    assert seen.forgotten == ()


def spare_host(starts: int) -> list[RecordHeaders]:
    """What an ingest on another host publishes, with a spool of its own, which is started so many times."""
    records: list[RecordHeaders] = []
    epoch = None
    for n in range(starts):
        prev = (epoch, 0) if epoch else None
        epoch = new_epoch(epoch, 1_796_000_000_000 + 1000 * n, 0xBBBBB)
        records.append(RecordHeaders(Kind.LOST, epoch, 0, prev=prev))
    return records


def test_a_host_that_comes_back_after_a_spare_one_is_known_still() -> None:
    """It died before it knew what it had published, and with more in its spool; that comes now, each record once."""
    seen, epoch = SequenceTracker(), new_epoch(None, 1_795_000_000_000, 0xAAAAA)
    took_over = spare_host(2 * EPOCHS_REMEMBERED)
    for headers in [*(RecordHeaders(Kind.QUIET, epoch, seq) for seq in range(5)), *took_over]:
        seen.mark_processed(headers)
    assert len(seen.epochs()) == EPOCHS_REMEMBERED
    seen = SequenceTracker(seen.epochs(), seen.forgotten)  # as after a restart of the archiver
    returned = [RecordHeaders(Kind.QUIET, epoch, seq) for seq in range(3, 7)]
    returned.append(RecordHeaders(Kind.LOST, new_epoch(epoch, 1_796_100_000_000, 1), 0, prev=(epoch, 6)))
    found = []
    for headers in returned:
        if record := seen.assemble(headers, 0, b"", 0):
            found.append((record.headers.epoch, record.headers.seq))
            seen.mark_processed(record.headers)
    assert found == [(epoch, 5), (epoch, 6), (returned[-1].epoch, 0)]
    assert seen.losses == []
    assert all(seen.assemble(headers, 0, b"", 0) is None for headers in took_over)


def test_a_file_is_rebuilt_after_many_starts_of_a_spare_host() -> None:
    """What was seen before is known again, in order."""
    old = new_epoch(None, 1_795_000_000_000, 0xAAAAA)
    records = spare_host(2 * EPOCHS_REMEMBERED)
    seen = SequenceTracker()
    for headers in [RecordHeaders(Kind.QUIET, old, 0), *records[:5]]:
        seen.mark_processed(headers)
    before = seen.epochs()
    for headers in records[5:]:
        seen.mark_processed(headers)
    epochs = roll_back(seen.epochs(), epoch_changes(before, seen.epochs()))
    assert epochs[-1] == before[-1], "the newest"
    again = SequenceTracker(epochs, forgotten_before(epochs, seen.forgotten))
    for headers in records:
        assert (again.assemble(headers, 0, b"", 0) is not None) == (headers in records[5:])
        if headers in records[5:]:
            again.mark_processed(headers)
    assert (again.losses, again.interleaved_producers) == ([], 0)
