"""Records count once, whole and in order, whatever ingest publishes again; every loss is detected, once."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import (
    EPOCHS_REMEMBERED,
    GIVE_UP_BYTES,
    Record,
    SequenceTracker,
    epoch_changes,
    roll_back,
)

A, B, C = "a" * 16, "b" * 16, "c" * 16
SCAN = ord("S")


class Message(NamedTuple):
    """What one Kafka message holds; its offset is its place in the log."""

    headers: RecordHeaders
    time: int
    value: bytes


def record(epoch: str, seq: int, **more: Any) -> RecordHeaders:
    """The headers of a frame, or of another kind of record."""
    return RecordHeaders(Kind.FRAME, epoch, seq, SCAN)._replace(**more)


def chunks(message: Message, count: int) -> list[Message]:
    """The message as ingest splits a value that is too large."""
    size = -(-len(message.value) // count)
    return [
        message._replace(
            headers=message.headers._replace(chunk=(k + 1, count)), value=message.value[k * size : (k + 1) * size]
        )
        for k in range(count)
    ]


def stepped(seen: SequenceTracker, log: Sequence[Message], offset: int = 0) -> Iterator[Record]:
    """The records of the log from that offset on, each processed before the next is read."""
    for at, (headers, time, value) in enumerate(log[offset:], offset):
        if found := seen.assemble(headers, time, value, at):
            seen.mark_processed(headers)
            yield found


class Outcome(NamedTuple):
    """The result of a log: the (epoch, seq) of its records, and the losses detected."""

    records: list[tuple[str, int]]
    losses: list[int | None]


def outcome(labels: Sequence[RecordHeaders], epochs: Sequence[tuple[str, int]] = ()) -> Outcome:
    """Step these, each with a value of one byte."""
    seen = SequenceTracker(epochs)
    found = [
        (r.headers.epoch, r.headers.seq) for r in stepped(seen, [Message(headers, 0, b"x") for headers in labels])
    ]
    return Outcome(found, [loss.records for loss in seen.losses])


def test_duplicates_are_dropped_and_counted() -> None:
    seen = SequenceTracker()
    log = [Message(record(A, seq), 0, b"x") for seq in (0, 1, 2, 0, 1, 2, 3, 3)]
    assert [found.headers.seq for found in stepped(seen, log)] == [0, 1, 2, 3]
    assert seen.duplicates == 4
    assert seen.losses == []
    assert seen.epochs() == ((A, 3),)


def test_a_record_counts_only_once_it_has_been_stepped() -> None:
    seen = SequenceTracker(((A, 4),))
    assert seen.assemble(record(A, 5), 0, b"x", 9)
    assert seen.epochs() == ((A, 4),)
    seen.mark_processed(record(A, 5))
    assert seen.epochs() == ((A, 5),)


def test_the_first_epoch_ever_known_may_begin_anywhere() -> None:
    assert outcome([record(A, 7), record(A, 8)]) == ([(A, 7), (A, 8)], [])


NEXT_EPOCHS = [
    pytest.param(record(A, 9), [], id="the next record"),
    pytest.param(record(A, 13), [4], id="a jump"),
    pytest.param(record(B, 0, prev=(A, 8)), [], id="prev as seen"),
    pytest.param(record(B, 0, prev=(A, 11)), [3], id="prev ahead"),
    pytest.param(record(B, 0, prev=(A, 6)), [None], id="prev behind"),
    pytest.param(record(B, 0), [None], id="no prev"),
    pytest.param(record(B, 0, prev=(C, 3)), [None], id="prev of an epoch that is unknown"),
    pytest.param(record(B, 0, prev=(A, 8), unclean=True), [None], id="unclean"),
    pytest.param(record(B, 0, prev=(A, 9), unclean=True), [1, None], id="prev ahead, and unclean"),
    pytest.param(record(B, 2), [2], id="an epoch whose first records are missing"),
]


@pytest.mark.parametrize(("headers", "losses"), NEXT_EPOCHS)
def test_a_loss_is_reported_once_with_its_size_if_that_is_known(
    headers: RecordHeaders, losses: list[int | None]
) -> None:
    assert outcome([headers], [(A, 8)]) == ([(headers.epoch, headers.seq)], losses)
    again = headers._replace(seq=headers.seq + 1, prev=None, unclean=False)
    assert outcome([headers, headers, again], [(A, 8)]).losses == losses


def test_a_loss_says_which_records() -> None:
    seen = SequenceTracker([(A, 8)])
    seen.mark_processed(record(A, 12))
    assert f"{A}:9 to {A}:11" in seen.losses[0].what


def test_two_ingests_taking_turns_are_noticed_a_restarted_one_is_not() -> None:
    restarted = SequenceTracker([(A, 3)])
    for headers in (record(A, 4), record(B, 0, prev=(A, 4)), record(B, 1), record(C, 0, prev=(B, 1))):
        restarted.mark_processed(headers)
    assert restarted.interleaved_producers == 0
    two = SequenceTracker([(A, 3)])
    for headers in (record(B, 0, prev=(A, 3)), record(A, 4)):
        two.mark_processed(headers)
    assert two.interleaved_producers == 1


def test_an_older_epochs_duplicates_are_not_two_ingests() -> None:
    seen = SequenceTracker([(A, 4), (B, 1)])
    log = [Message(record(epoch, seq), 0, b"x") for epoch, seq in ((A, 3), (A, 4), (B, 0), (B, 1), (B, 2))]
    assert [found.headers.seq for found in stepped(seen, log)] == [2]
    assert seen.interleaved_producers == 0


def test_the_32_epochs_with_the_latest_records_are_remembered() -> None:
    names = [f"{n:016x}" for n in range(EPOCHS_REMEMBERED + 1)]
    seen = SequenceTracker()
    for before, name in zip([None, *names], names[:-1], strict=False):
        seen.mark_processed(record(name, 0, prev=before and (before, 0)))
    seen.mark_processed(record(names[0], 1))
    seen.mark_processed(record(names[-1], 0, prev=(names[-2], 0)))
    kept = dict(seen.epochs())
    assert len(kept) == EPOCHS_REMEMBERED == 32
    assert kept[names[0]] == 1, "its record came lately"
    assert names[1] not in kept


# Chunks


def test_chunks_are_one_record_at_the_place_of_the_last() -> None:
    whole = Message(record(A, 1, id="x"), 500, b"0123456789")
    log = [Message(record(A, 0), 400, b"x"), *chunks(whole, 3)]
    seen = SequenceTracker()
    _, found = stepped(seen, log)
    assert b"".join(found.value) == whole.value
    assert found.bytes == 10
    assert (found.headers.seq, found.headers.id, found.time_ms, found.offset) == (1, "x", 500, 1)
    assert seen.safe_offset(4) == 4


def test_reading_must_resume_from_the_first_chunk_of_an_incomplete_record() -> None:
    first, second, third = chunks(Message(record(A, 1), 0, b"abcdef"), 3)
    seen = SequenceTracker([(A, 0)])
    assert seen.safe_offset(10) == 10
    assert list(stepped(seen, [first, second])) == []
    assert seen.safe_offset(2) == 0
    assert seen.assemble(*third, 2)
    assert seen.safe_offset(3) == 3


REPUBLISHED = [
    [0, 1, 2],
    [0, 0, 1, 2],
    [0, 1, 0, 1, 2],
    [0, 1, 1, 2],
    [0, 1, 2, 2],
    [0, 1, 2, 0, 1, 2],
    [0, 0, 1, 1, 2, 1, 2],
]


@pytest.mark.parametrize("order", REPUBLISHED)
def test_republished_chunks_are_dropped(order: list[int]) -> None:
    parts = chunks(Message(record(A, 1), 0, b"abcdef"), 3)
    after = Message(record(A, 2), 0, b"z")
    seen = SequenceTracker([(A, 0)])
    found = list(stepped(seen, [parts[k] for k in order] + [after]))
    assert [b"".join(r.value) for r in found] == [b"abcdef", b"z"]
    assert seen.losses == []
    assert seen.duplicates == len(order) - 3


def chunk(epoch: str, seq: int, k: int, n: int) -> RecordHeaders:
    return record(epoch, seq, chunk=(k, n))


GIVEN_UP = [
    pytest.param([chunk(A, 5, 1, 3), chunk(A, 5, 3, 3), record(A, 6)], [(A, 6)], id="a chunk that jumps"),
    pytest.param([chunk(A, 5, 1, 3), chunk(A, 5, 2, 4), record(A, 6)], [(A, 6)], id="another number of chunks"),
    pytest.param([chunk(A, 5, 2, 3), chunk(A, 5, 3, 3), record(A, 6)], [(A, 6)], id="its first chunk never came"),
    pytest.param([chunk(A, 5, 1, 3), record(A, 6)], [(A, 6)], id="a later record"),
    pytest.param([chunk(A, 5, 1, 3), chunk(A, 6, 1, 2), chunk(A, 6, 2, 2)], [(A, 6)], id="a later record's chunk"),
    pytest.param([chunk(A, 5, 1, 3), record(B, 0, prev=(A, 5))], [(B, 0)], id="an epoch that succeeds its own"),
]


@pytest.mark.parametrize(("labels", "records"), GIVEN_UP)
def test_what_stays_incomplete_is_given_up_and_reported_once(
    labels: list[RecordHeaders], records: list[tuple[str, int]]
) -> None:
    epoch, seq = records[-1]
    after = [record(epoch, seq + 1), chunk(A, 5, 2, 3), record(epoch, seq + 2)]
    found = outcome([*labels, *after], [(A, 4)])
    assert found.records == [*records, (epoch, seq + 1), (epoch, seq + 2)]
    assert found.losses == [1]


def test_what_came_whole_after_all_is_no_loss() -> None:
    """An ingest of another version, with another size of chunks."""
    labels = [chunk(A, 5, 1, 3), record(A, 5), record(A, 6)]
    assert outcome(labels, [(A, 4)]) == ([(A, 5), (A, 6)], [])


def test_what_is_given_up_holds_no_offset_back() -> None:
    seen = SequenceTracker([(A, 4)])
    list(stepped(seen, [Message(chunk(A, 5, 1, 3), 0, b"x"), Message(chunk(A, 5, 3, 3), 0, b"x")]))
    assert seen.safe_offset(2) == 2


def one_gib(epoch: str) -> list[Message]:
    """Records of another ingest, of which GIVE_UP_BYTES are exceeded by the last."""
    block = bytes(GIVE_UP_BYTES // 8)
    return [Message(record(epoch, seq), 0, block) for seq in range(1, 9)] + [Message(record(epoch, 9), 0, b"x")]


def test_after_1_gib_of_later_records_what_is_incomplete_is_given_up_and_reported_once() -> None:
    seen = SequenceTracker([(B, 0), (A, 4)])
    other = one_gib(B)
    log = [Message(chunk(A, 5, 1, 3), 0, b"x"), *other]
    list(stepped(seen, log[:-1]))
    assert seen.losses == []
    assert seen.safe_offset(9) == 0
    list(stepped(seen, log, 9))
    assert [loss.records for loss in seen.losses] == [1]
    assert seen.safe_offset(10) == 10
    log += [Message(chunk(A, 5, 2, 3), 0, b"x"), Message(record(A, 6), 0, b"x")]
    assert [found.headers.seq for found in stepped(seen, log, 10)] == [6]
    assert [loss.records for loss in seen.losses] == [1]


def test_a_jump_before_what_is_given_up_after_1_gib_is_reported_too() -> None:
    seen = SequenceTracker([(B, 0), (A, 4)])
    log = [Message(chunk(A, 6, 1, 3), 0, b"x"), *one_gib(B), Message(record(A, 7), 0, b"x")]
    list(stepped(seen, log))
    assert sum(loss.records or 0 for loss in seen.losses) == 2


def test_an_epochs_first_record_given_up_after_1_gib_is_reported_once() -> None:
    seen = SequenceTracker([(B, 0)])
    log = [Message(chunk(A, 0, 1, 3), 0, b"x"), *one_gib(B), Message(record(A, 1), 0, b"x")]
    list(stepped(seen, log))
    assert [loss.records for loss in seen.losses] == [1]


def test_a_successor_that_names_the_record_before_gives_it_up_and_reports_it() -> None:
    """ingest's spool had gone back to before a record that Kafka has in part already: both losses are detected."""
    found = outcome([chunk(A, 5, 1, 3), record(B, 0, prev=(A, 4))], [(A, 4)])
    assert found == ([(B, 0)], [1, None])


def test_the_first_record_of_a_stream_given_up_is_reported() -> None:
    assert outcome([chunk(A, 0, 1, 3), record(A, 1)]) == ([(A, 1)], [1])


# The result, whatever is killed


class Killed(NamedTuple):
    """The records that ingest made, and the messages that Kafka has of them, with repeated ones."""

    records: list[Message]
    log: list[Message]


some_messages = st.lists(st.sampled_from([Kind.FRAME, Kind.FRAME, Kind.FRAME, Kind.LOST]), max_size=15).map(
    lambda kinds: [Message(RecordHeaders(kind, A, 0), at, f"value {at}".encode()) for at, kind in enumerate(kinds)]
)


@st.composite
def killed_ingests(draw: st.DrawFn, originals: Sequence[Message]) -> Killed:
    """What is published of these if ingest is killed, or its producer fails, at any time.

    Each continues the spool of the one before, and publishes it from the first unacknowledged message on. A new
    ingest makes itself known by `lost`, so every `lost` here begins an epoch.
    """
    records: list[Message] = []
    spool: list[Message] = []  # with what has been acknowledged and removed, up to `removed`
    log: list[Message] = []
    removed = published = seq = 0
    epoch = f"{0:016x}"
    for message in originals:
        prev = None
        if message.headers.kind is Kind.LOST and seq:
            prev, epoch, seq = (epoch, seq - 1), f"{len(records):016x}", 0
            published = removed
        records.append(message._replace(headers=message.headers._replace(epoch=epoch, seq=seq, prev=prev)))
        seq += 1
        count = draw(st.sampled_from([1, 1, 2, 3])) if len(message.value) >= 3 else 1
        spool += chunks(records[-1], count) if count > 1 else records[-1:]
        for what in draw(st.lists(st.sampled_from(["publish", "publish", "acknowledge", "fail"]), max_size=3)):
            if what == "publish":
                until = draw(st.integers(published, len(spool)))
                log += spool[published:until]
                published = until
            elif what == "acknowledge":
                removed = draw(st.integers(removed, published))
            else:
                published = removed
    return Killed(records, log + spool[published:])


@settings(deadline=None, max_examples=40)
@given(some_messages.flatmap(killed_ingests), st.data())
def test_every_record_comes_exactly_once_and_in_order(killed: Killed, data: st.DataObject) -> None:
    """Here the archiver is killed, too, and continues from its last commit."""
    seen = SequenceTracker()
    got: list[Message] = []
    saved = (0, seen.epochs(), 0)
    kills = data.draw(st.lists(st.integers(0, len(killed.log)), max_size=3), label="kills after")
    commits = data.draw(st.sets(st.integers(0, len(killed.log))), label="commits after")
    for until in [*sorted(kills), len(killed.log)]:
        offset, epochs, have = saved
        seen = SequenceTracker(epochs)
        del got[have:]
        for at in range(offset, until):
            for found in stepped(seen, killed.log[: at + 1], at):
                got.append(Message(found.headers._replace(chunk=(1, 1)), found.time_ms, b"".join(found.value)))
            if at in commits:
                saved = (seen.safe_offset(at + 1), seen.epochs(), len(got))
        assert seen.losses == []
        assert seen.interleaved_producers == 0
    assert got == killed.records


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=12), st.data())
def test_whatever_the_log_lacks_is_counted_exactly(counts: list[int], data: st.DataObject) -> None:
    """Of one epoch; its first and last records are there, so that every loss is between two that are known."""
    middle: list[Message] = []
    for seq, count in enumerate(counts, 1):
        middle += chunks(Message(record(A, seq), 0, b"abcdef"), count)
    gone = data.draw(st.sets(st.integers(0, len(middle) - 1)), label="gone")
    kept = [message for at, message in enumerate(middle) if at not in gone]
    log = [Message(record(A, 0), 0, b"x"), *kept, Message(record(A, len(counts) + 1), 0, b"x")]
    seen = SequenceTracker()
    found = list(stepped(seen, log))
    assert len(found) + sum(loss.records or 0 for loss in seen.losses) == len(counts) + 2
    assert [b"".join(r.value) for r in found[1:-1]] == [b"abcdef"] * (len(found) - 2)
    assert seen.safe_offset(len(log)) == len(log)


# An operator's record


def operators(epoch: str, prev: tuple[str, int]) -> RecordHeaders:
    """What `archiver close` publishes after a record."""
    return RecordHeaders(Kind.LOST, epoch, 0, why="closed", prev=prev, operator=True)


def test_an_operators_record_leaves_the_chain_of_epochs_as_it_is() -> None:
    log = [record(A, 5), operators(C, (A, 5)), record(B, 0, prev=(A, 5)), record(B, 1)]
    assert outcome(log, [(A, 4)]) == ([(A, 5), (C, 0), (B, 0), (B, 1)], [])
    seen = SequenceTracker([(A, 4)])
    list(stepped(seen, [Message(headers, 0, b"") for headers in log]))
    assert seen.epochs() == ((A, 5), (B, 1))
    assert (seen.interleaved_producers, seen.duplicates) == (0, 0)


LATER = [
    pytest.param([record(A, 6)], id="the same ingest continues"),
    pytest.param([record(B, 0, prev=(A, 5))], id="another ingest has begun"),
    pytest.param([record(B, 0), record(A, 6), record(B, 1)], id="two ingests"),
]


@pytest.mark.parametrize("later", LATER)
def test_an_operators_record_that_comes_too_late_or_again_ends_nothing_later(later: list[RecordHeaders]) -> None:
    """An ingest that was alive after all; a restart that reads it again; a mirror that copies a piece twice."""
    late = operators(C, (A, 5))
    log = [record(A, 5), *later]
    assert outcome([*log, late], [(A, 4)]).records == outcome(log, [(A, 4)]).records
    assert outcome([record(A, 5), late, *later, late], [(A, 4)]).records == [(A, 5), (C, 0)] + [
        (headers.epoch, headers.seq) for headers in later
    ]


def test_what_is_incomplete_at_an_operators_record_may_still_come() -> None:
    """The next ingest has it in its spool: giving it up would make its record a duplicate, and lose it."""
    begun, done = chunks(Message(record(A, 5), 0, b"abcdef"), 2)
    log = [begun, Message(operators(C, (A, 4)), 0, b""), begun, done]
    seen = SequenceTracker([(A, 4)])
    assert [found.headers.epoch for found in stepped(seen, log)] == [C, A]
    assert seen.losses == []


@settings(deadline=None, max_examples=60)
@given(some_messages.flatmap(killed_ingests), st.data())
def test_with_and_without_an_operators_records_the_same_is_found(killed: Killed, data: st.DataObject) -> None:
    """Wherever they stand, and whatever is missing of the rest."""
    gone = data.draw(st.sets(st.integers(0, max(0, len(killed.log) - 1)), max_size=3), label="gone")
    log = [message for at, message in enumerate(killed.log) if at not in gone]
    places = data.draw(st.lists(st.integers(0, len(log)), max_size=3), label="an operator's before")
    between: list[Message] = []
    for at in range(len(log) + 1):
        for _ in range(places.count(at)):
            before = SequenceTracker()
            list(stepped(before, log[:at]))
            prev = (before.epochs() or ((A, 0),))[-1]
            between.append(Message(operators(f"{2**63 + len(between):016x}", prev), 0, b""))
        between += log[at : at + 1]
    without, with_them = SequenceTracker(), SequenceTracker()
    expected = [found.headers for found in stepped(without, log)]
    found = [found.headers for found in stepped(with_them, between)]
    assert [headers for headers in found if not headers.operator] == expected
    assert sum(headers.operator for headers in found) == len(places), "each stands where nothing later was seen"
    assert [(loss.records, loss.what) for loss in with_them.losses] == [
        (loss.records, loss.what) for loss in without.losses
    ]
    assert with_them.epochs() == without.epochs()
    assert (with_them.interleaved_producers, with_them.duplicates) == (
        without.interleaved_producers,
        without.duplicates,
    )


epoch_names = st.sampled_from([f"{n:016x}" for n in range(40)])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(epoch_names, st.integers(1, 3))), st.lists(st.tuples(epoch_names, st.integers(1, 3))))
def test_what_has_changed_can_be_undone(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> None:
    """But for epochs forgotten meanwhile."""
    seen = SequenceTracker()
    for epoch, by in before:
        seen.mark_processed(record(epoch, dict(seen.epochs()).get(epoch, -1) + by))
    since = seen.epochs()
    for epoch, by in after:
        seen.mark_processed(record(epoch, dict(seen.epochs()).get(epoch, -1) + by))
    now = seen.epochs()
    kept = dict(now)
    assert dict(roll_back(now, epoch_changes(since, now))) == {e: seq for e, seq in since if e in kept}
    assert roll_back(now, {}) == now
    assert epoch_changes(now, now) == {}
