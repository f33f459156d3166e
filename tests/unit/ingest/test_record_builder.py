"""The records that one start of ingest makes: their headers and their numbers."""

from g3stream.contract.headers import Kind, RecordHeaders
from ingest.receive.record_builder import PendingRecord, RecordBuilder
from tests.support.frames import SCAN, frame, frame_with

EPOCH = "00112233aabbccdd"
PREV = ("f" * 16, 41)
BROKEN = frame_with(frame_num=1)[:-1] + b"!"


def record_builder() -> RecordBuilder:
    """One that has made its first record."""
    builder = RecordBuilder(EPOCH, None, False)
    builder.connection_record(Kind.LOST, 0, "ingest started")
    return builder


def test_the_first_record_is_a_lost_that_names_what_was_before() -> None:
    record = RecordBuilder(EPOCH, PREV, True).connection_record(Kind.LOST, 1234, "ingest started")
    assert record == PendingRecord(
        RecordHeaders(Kind.LOST, EPOCH, 0, why="ingest started", prev=PREV, unclean=True), 1234
    )


def test_the_first_record_of_a_new_spool_names_nothing() -> None:
    record = RecordBuilder(EPOCH, None, False).connection_record(Kind.LOST, 5, "ingest started")
    assert (record.headers.prev, record.headers.unclean) == (None, False)


def test_only_the_first_record_names_what_was_before() -> None:
    builder = RecordBuilder(EPOCH, PREV, True)
    builder.connection_record(Kind.LOST, 0, "ingest started")
    later = [
        builder.connection_record(Kind.CONNECTED, 1, "here:1"),
        builder.connection_record(Kind.QUIET, 2),
        builder.connection_record(Kind.LOST, 3, "closed"),
        builder.received(frame(), 4),
    ]
    assert all(record and record.headers.prev is None and not record.headers.unclean for record in later)


def test_facts_and_frames_are_numbered_together_without_a_hole() -> None:
    builder = RecordBuilder(EPOCH, None, False)
    start, data, end = (
        frame_with(sostream_flowcontrol=1),
        frame_with(sostream_id="a", session_id=2, frame_num=3),
        frame(),
    )
    assert [
        builder.connection_record(Kind.LOST, 1, "ingest started"),
        builder.connection_record(Kind.CONNECTED, 2, "10.0.0.1:4532"),
        builder.received(start, 3),
        builder.received(data, 4),
        builder.connection_record(Kind.QUIET, 5),
        builder.received(end, 6),
        builder.connection_record(Kind.LOST, 7, "the sender closed it"),
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
    builder = record_builder()
    assert builder.received(frame_with(sostream_flowcontrol=0), 1) is None
    assert builder.received(frame_with(sostream_flowcontrol=3), 2) is None
    assert builder.connection_record(Kind.QUIET, 3).headers.seq == 1


def test_a_quiet_second_says_whether_the_sender_has_said_that_it_is_alive() -> None:
    builder = record_builder()
    assert builder.connection_record(Kind.QUIET, 1).headers.why is None
    builder.received(frame_with(sostream_flowcontrol=0), 2)
    assert [builder.connection_record(Kind.QUIET, 3).headers.why for _ in range(2)] == ["alive", None]
    builder.received(frame_with(sostream_flowcontrol=0), 4)
    assert builder.connection_record(Kind.LOST, 5, "closed").headers.why == "closed"


def test_rejected_frames_have_numbers_of_their_own() -> None:
    builder = record_builder()
    bad = [
        builder.received(BROKEN, 1),
        builder.received(frame_with(sostream_flowcontrol=9), 2),
        builder.received(BROKEN, 3),
    ]
    assert all(
        record and record.rejected and record.headers.kind is Kind.FRAME and record.headers.why for record in bad
    )
    assert [record.headers.seq for record in bad if record] == [0, 1, 2]
    assert next(record.value for record in bad if record) is BROKEN, "unchanged"
    good = builder.received(frame(), 4)
    assert good is not None
    assert (good.headers.seq, good.rejected) == (1, False)


def test_bad_ids_are_counted_and_not_used() -> None:
    builder = record_builder()
    record = builder.received(frame_with(sostream_id="../../etc"), 1)
    builder.received(frame_with(sostream_id="good"), 2)
    builder.received(frame_with(sostream_id="a b"), 3)
    assert builder.bad_ids == 2
    assert record is not None
    assert record.headers.id is None
    assert not record.rejected
