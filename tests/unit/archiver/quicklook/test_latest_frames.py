"""Which frames of a topic's records a look is made of."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from archiver.quicklook.latest_frames import FrameCollector
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES

EPOCH = "0123456789abcdef"
SCAN = FRAME_TYPES["Scan"]


class Record:
    """A message as Kafka's client delivers it."""

    def __init__(self, seq: int, value: bytes, headers: RecordHeaders | None = None, **changed: Any) -> None:
        self._headers = (headers or RecordHeaders(Kind.FRAME, EPOCH, seq, SCAN))._replace(**changed).to_kafka()
        self._value = value

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers

    def value(self) -> bytes:
        return self._value

    def offset(self) -> int:
        return 0


def collected(records: list[Record], max_bytes: int = 1000) -> tuple[tuple[bytes, ...], int]:
    collector = FrameCollector("crate1slot2", max_bytes)
    collector.add(records)  # type: ignore[arg-type]  # messages of Kafka's client can't be made
    return collector.result()


def test_only_scan_frames_are_taken_each_once_and_large_ones_are_joined() -> None:
    records = [
        Record(0, b"tail of a frame that began before", chunk=(2, 2)),
        Record(1, b"wiring", type=FRAME_TYPES["Wiring"]),
        Record(2, b"a"),
        Record(3, b"b1", chunk=(1, 2)),
        Record(3, b"b1", chunk=(1, 2)),
        Record(3, b"b2", chunk=(2, 2)),
        Record(2, b"a"),
        Record(4, b"", headers=RecordHeaders(Kind.QUIET, EPOCH, 4)),
        Record(5, b"c"),
        Record(6, b"begun", chunk=(1, 2)),
    ]
    assert collected(records) == ((b"a", b"b1b2", b"c"), 0)


def test_what_breaks_the_contract_is_skipped() -> None:
    bad = Record(1, b"bad")
    bad.headers = lambda: [("v", b"99")]  # type: ignore[method-assign]  # a header that no ingest publishes
    assert collected([Record(0, b"a"), bad, Record(2, b"c")]) == ((b"a", b"c"), 0)


@given(sizes=st.lists(st.integers(1, 40), max_size=30), max_bytes=st.integers(1, 200))
def test_the_newest_that_fit_are_kept(sizes: list[int], max_bytes: int) -> None:
    frames, left_out = collected([Record(seq, b"x" * size) for seq, size in enumerate(sizes)], max_bytes)
    assert sum(map(len, frames)) <= max_bytes
    assert left_out + len(frames) == len(sizes)
    assert [len(frame) for frame in frames] == sizes[left_out:]
    assert left_out == 0 or sum(sizes[left_out - 1 :]) > max_bytes
