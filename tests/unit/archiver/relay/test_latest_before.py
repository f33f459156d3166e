"""Which of the records at a topic's end a new client is sent, and where the relay reads on."""

import g3stream
from archiver.kafka.topic_tail import TailRecord
from archiver.relay.latest_before import latest_offsets
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES

EPOCH = "0123456789abcdef"
SCAN, WIRING, OBSERVATION, NONE = (FRAME_TYPES[name] for name in ("Scan", "Wiring", "Observation", "none"))


def tail(*records: RecordHeaders | None) -> list[TailRecord]:
    """Return records at the offsets from 100 on; None: one that breaks the contract."""
    return [TailRecord(100 + n, headers, 0, 10) for n, headers in enumerate(records)]


def of(seq: int, code: int, kind: Kind = Kind.FRAME, chunk: tuple[int, int] = (1, 1)) -> RecordHeaders:
    return RecordHeaders(kind, EPOCH, seq, code, chunk=chunk)


def fact(seq: int, kind: Kind) -> RecordHeaders:
    return RecordHeaders(kind, EPOCH, seq)


def test_the_latest_of_each_type_in_the_order_of_their_first_since_the_connection_began() -> None:
    records = tail(
        of(0, OBSERVATION),
        fact(1, Kind.LOST),
        fact(2, Kind.CONNECTED),
        of(3, NONE, Kind.START),
        None,
        of(4, WIRING),
        of(5, SCAN),
        of(6, WIRING, chunk=(1, 2)),
        of(6, WIRING, chunk=(2, 2)),
        of(4, WIRING),  # a duplicate
        of(7, NONE, Kind.END),
        fact(8, Kind.QUIET),
    )
    offsets, position = latest_offsets(records, g3stream.Position("s", 112))
    assert list(offsets.items()) == [(NONE, 110), (WIRING, 107)]
    assert position == g3stream.Position("s", 112, ((EPOCH, 8),))


def test_a_record_that_is_still_incomplete_is_read_again() -> None:
    offsets, position = latest_offsets(tail(of(0, WIRING), of(1, WIRING, chunk=(1, 2))), g3stream.Position("s", 102))
    assert (offsets, position) == ({WIRING: 100}, g3stream.Position("s", 101, ((EPOCH, 0),)))
