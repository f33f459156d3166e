"""Frame scanner: it finds the same frames and damage as the decoder, in any pieces, and keeps no frame in memory."""

import struct
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spt3g import core

from g3stream.frame_format.layout import FrameFormatError, TruncatedFrameError, parse_header
from g3stream.frame_format.reader import FrameScanner, ScannedFrame, read_frame
from g3stream.frame_format.scalars import integer
from tests.support import wire_model
from tests.support.frames import ANY_FRAME, SCAN, blob, frame

WANTED = (b"frame_num", b"session_id")
NUMBERED = [
    frame([(b"x" * n, b"y" * 100 * n), (b"frame_num", blob(core.G3Int(n))), (b"session_id", blob(core.G3Int(7)))])
    for n in range(1, 5)
]


def scan(pieces: Iterable[bytes], size: int) -> tuple[list[ScannedFrame], FrameFormatError | None, FrameScanner]:
    scanner = FrameScanner(size, WANTED)
    found: list[ScannedFrame] = []
    try:
        for piece in pieces:
            found += scanner.scan(piece)  # also those before an error
        scanner.finish()
    except FrameFormatError as error:
        return found, error, scanner
    return found, None, scanner


def cut(data: bytes, draw: st.DataObject) -> list[bytes]:
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=30)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def leading(data: bytes) -> list[bytes]:
    """Return the good frames before the first bad one."""
    good, at = [], 0
    for whole in wire_model.read(data, 1 << 40).good:
        if data[at : at + len(whole)] != whole:
            break
        good.append(whole)
        at += len(whole)
    return good


@given(st.lists(st.one_of(ANY_FRAME, st.sampled_from(NUMBERED)), max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_any_frames_are_scanned_however_they_are_cut(frames: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(frames)
    found, error, scanner = scan(cut(data, draw), len(data))
    assert (error, scanner.frames, scanner.frame_start) == (None, len(frames), len(data))
    ends = [len(b"".join(frames[: n + 1])) for n in range(len(frames))]
    assert [(it.code, it.end) for it in found] == list(
        zip((parse_header(whole, 0)[2] for whole in frames), ends, strict=True)
    )
    for it, whole in zip(found, frames, strict=True):
        read = read_frame(whole, WANTED)
        assert read is not None
        assert {name: integer(it.blobs[name]) for name in it.blobs} == {
            name: integer(read.blobs[name]) for name in read.blobs
        }


@given(st.lists(st.one_of(ANY_FRAME, st.sampled_from(NUMBERED)), min_size=1, max_size=4), st.data())
@settings(max_examples=150, deadline=None)
def test_damage_is_found_where_it_is(frames: list[bytes], draw: st.DataObject) -> None:
    data = bytearray(b"".join(frames))
    for _ in range(draw.draw(st.integers(0, 2))):
        data[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    del data[draw.draw(st.one_of(st.just(len(data)), st.integers(0, len(data)))) :]
    found, error, scanner = scan(cut(bytes(data), draw), len(data))
    good = leading(bytes(data))
    assert scanner.frames == len(good)
    assert scanner.frame_start == len(b"".join(good))
    assert (error is None) == (scanner.frame_start == len(data))
    assert len(found) <= len(good)
    if error:
        assert f"frame {len(good) + 1}, at byte {scanner.frame_start}:" in str(error)


@pytest.mark.parametrize("size", [0, 5, 13, 30, 100])
def test_a_frame_that_is_cut_off(size: int) -> None:
    data = NUMBERED[0] + NUMBERED[1][:size]
    found, error, _ = scan([data], len(data))
    assert len(found) == 1
    assert isinstance(error, TruncatedFrameError) == bool(size)


def test_neither_a_long_frame_nor_a_claimed_length_takes_memory() -> None:
    mib = bytes(1 << 20)
    head = struct.pack("<BIiI", 1, 1, 1, SCAN) + struct.pack("<Q", 1) + b"x"
    size = len(head) + 8 + (64 << 20) + 4
    tracemalloc.start()
    try:
        scanner = FrameScanner(size, WANTED)
        assert list(scanner.scan(head + struct.pack("<Q", 64 << 20))) == []
        for _ in range(64):
            assert list(scanner.scan(mib)) == []
        with pytest.raises(FrameFormatError, match="its CRC is wrong"):
            list(scanner.scan(bytes(4)))
        with pytest.raises(TruncatedFrameError, match="it would end beyond byte"):
            list(FrameScanner(1 << 40, WANTED).scan(head + struct.pack("<Q", 1 << 62)))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
