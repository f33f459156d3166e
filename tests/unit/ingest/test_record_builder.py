"""The records that one start of ingest makes: what they say, and how they are numbered."""

from g3stream.contract.headers import Kind, RecordHeaders
from ingest.receive.record_builder import PendingRecord, RecordBuilder
from tests.support.frames import SCAN, frame, frame_with

EPOCH = "00112233aabbccdd"
PREV = ("f" * 16, 41)
BROKEN = frame_with(frame_num=1)[:-1] + b"!"


def reception() -> RecordBuilder:
    """One that has told its start."""
    made = RecordBuilder(EPOCH, None, False)
    made.started(0)
    return made


def test_the_first_record_is_a_lost_that_names_what_was_before() -> None:
    entry = RecordBuilder(EPOCH, PREV, True).started(1234)
    assert entry == PendingRecord(
        RecordHeaders(Kind.LOST, EPOCH, 0, why="ingest started", prev=PREV, unclean=True), 1234
    )


def test_the_first_record_of_a_new_spool_names_nothing() -> None:
    entry = RecordBuilder(EPOCH, None, False).started(5)
    assert (entry.headers.prev, entry.headers.unclean) == (None, False)


def test_only_the_first_record_names_what_was_before() -> None:
    made = RecordBuilder(EPOCH, PREV, True)
    made.started(0)
    later = [
        made.connected(1, "here:1"),
        made.heartbeat(2),
        made.disconnected(3, "closed"),
        made.received(frame(), 4),
    ]
    assert all(entry and entry.headers.prev is None and not entry.headers.unclean for entry in later)


def test_facts_and_frames_are_numbered_together_without_a_hole() -> None:
    made = RecordBuilder(EPOCH, None, False)
    start, data, end = (
        frame_with(sostream_flowcontrol=1),
        frame_with(sostream_id="a", session_id=2, frame_num=3),
        frame(),
    )
    assert [
        made.started(1),
        made.connected(2, "10.0.0.1:4532"),
        made.received(start, 3),
        made.received(data, 4),
        made.heartbeat(5),
        made.received(end, 6),
        made.disconnected(7, "the sender closed it"),
    ] == [
        PendingRecord(RecordHeaders(Kind.LOST, EPOCH, 0, why="ingest started"), 1),
        PendingRecord(RecordHeaders(Kind.CONNECTED, EPOCH, 1, why="10.0.0.1:4532"), 2),
        PendingRecord(RecordHeaders(Kind.START, EPOCH, 2, SCAN), 3, start),
        PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 3, SCAN, "a", 2, 3), 4, data),
        PendingRecord(RecordHeaders(Kind.QUIET, EPOCH, 4), 5),
        PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 5, SCAN), 6, end),
        PendingRecord(RecordHeaders(Kind.LOST, EPOCH, 6, why="the sender closed it"), 7),
    ]


def test_discarded_frames_make_no_record_and_use_no_number() -> None:
    made = reception()
    assert made.received(frame_with(sostream_flowcontrol=0), 1) is None
    assert made.received(frame_with(sostream_flowcontrol=3), 2) is None
    assert made.heartbeat(3).headers.seq == 1


def test_rejected_frames_have_numbers_of_their_own() -> None:
    made = reception()
    bad = [made.received(BROKEN, 1), made.received(frame_with(sostream_flowcontrol=9), 2), made.received(BROKEN, 3)]
    assert all(entry and entry.rejected and entry.headers.kind is Kind.FRAME and entry.headers.why for entry in bad)
    assert [entry.headers.seq for entry in bad if entry] == [0, 1, 2]
    assert next(entry.value for entry in bad if entry) is BROKEN, "raw, as it came"
    good = made.received(frame(), 4)
    assert good is not None
    assert (good.headers.seq, good.rejected) == (1, False)


def test_bad_ids_are_counted_and_not_used() -> None:
    made = reception()
    entry = made.received(frame_with(sostream_id="../../etc"), 1)
    made.received(frame_with(sostream_id="good"), 2)
    made.received(frame_with(sostream_id="a b"), 3)
    assert made.bad_ids == 2
    assert entry is not None
    assert entry.headers.id is None
    assert not entry.rejected
