"""Frame decoder: it finds the same frames in a byte stream as spt3g, and a hostile stream does no harm."""

import struct
import tracemalloc
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spt3g import core

from g3stream.frame_format.decoder import FrameDecoder
from g3stream.frame_format.layout import MAX_KEYS, MAX_NAME_BYTES, FrameFormatError
from testbed.frames import decode_frames
from tests.support.frames import ANY_FRAME, SCAN, frame

DATA = Path(__file__).parents[3] / "data"
MIB = 1 << 20
LIMIT = 64 * MIB


def feed(decoder: FrameDecoder, data: bytes) -> Iterator[bytes]:
    """Feed `data` in pieces as large as the decoder accepts; yield the frames as they become complete."""
    source = BytesIO(data)
    while source.tell() < len(data):
        decoder.fill(source.readinto)
        for whole in decoder.frames():
            yield bytes(whole)


def free_bytes(decoder: FrameDecoder) -> int:
    """Return how much the decoder accepts at once."""
    found = []

    def read(space: memoryview) -> int:
        found.append(len(space))
        return 0

    decoder.fill(read)
    return found[0]


def feed_all(decoder: FrameDecoder, pieces: Iterable[bytes]) -> list[bytes]:
    """Return all frames in those pieces."""
    return [whole for piece in pieces for whole in feed(decoder, piece)]


def spt3g_length(data: bytes) -> int:
    """Return the length of the first frame in `data`: its shortest prefix that spt3g loads."""
    low, high = 0, len(data)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            core.G3Frame()._cereal_loads(data[:middle])
        except RuntimeError:
            low = middle
        else:
            high = middle
    return high


# -- agreeing with spt3g --------------------------------------------------------------------------------------


@given(st.lists(ANY_FRAME, min_size=1, max_size=5), st.data())
@settings(max_examples=30, deadline=None)
def test_any_frames_are_decoded_whole_however_the_stream_is_cut(frames: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=30)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    decoder = FrameDecoder(LIMIT)
    assert feed_all(decoder, pieces) == frames
    assert decoder.pending_bytes == 0


@given(st.lists(ANY_FRAME, min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_spt3g_finds_the_same_boundaries(frames: list[bytes]) -> None:
    rest = b"".join(frames)
    for found in decode_frames(rest):
        assert len(found) == spt3g_length(rest)
        rest = rest[len(found) :]
    assert rest == b""


@given(ANY_FRAME, ANY_FRAME)
@settings(max_examples=20, deadline=None)
def test_byte_by_byte(first: bytes, second: bytes) -> None:
    decoder = FrameDecoder(LIMIT)
    stream = first + second
    out: list[bytes] = []
    for n in range(len(stream)):
        out += feed(decoder, stream[n : n + 1])
        assert decoder.pending_bytes == n + 1 - sum(map(len, out))
        assert len(out) == (n + 1 >= len(first)) + (n + 1 >= len(stream)), "a frame is yielded with its last byte"
    assert out == [first, second]


@pytest.mark.parametrize("name", ["smurf-session.g3", "smurf-slot.g3"])
def test_recorded_streams_are_decoded_into_their_exact_bytes(name: str) -> None:
    data = (DATA / name).read_bytes()
    frames = decode_frames(data)
    assert b"".join(frames) == data
    assert len(frames) == len(list(core.G3File(str(DATA / name))))
    for one in frames:
        core.G3Frame()._cereal_loads(one)


# -- all sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [4099, 300_007, MIB, 64 * MIB])
def test_sizes_from_nothing_to_many_mib_interleaved(step: int) -> None:
    threshold = 4 * MIB
    sizes = [0, 1, 20_000, 9 * MIB, 3, threshold - 100, threshold, 0, 2 * MIB, 5 * MIB, 5 * MIB, 17]
    frames = [frame([(b"k", bytes([n]) * size)]) if size else frame() for n, size in enumerate(sizes)]
    stream = b"".join(frames)
    decoder = FrameDecoder(LIMIT)
    out = feed_all(decoder, (stream[at : at + step] for at in range(0, len(stream), step)))
    assert [len(one) for one in out] == [len(one) for one in frames]
    assert out == frames
    assert decoder.pending_bytes == 0


def test_a_large_frame_is_valid_until_the_next_filling() -> None:
    decoder = FrameDecoder(LIMIT)
    frames = [frame([(b"k", bytes([n]) * size)]) for n, size in enumerate([6 * MIB, 100, 3 * MIB, 200_000, 6 * MIB])]
    stream = b"".join(frames)
    kept: list[bytes | memoryview] = []
    source = BytesIO(stream)
    while source.tell() < len(stream):
        decoder.fill(source.readinto)
        new = list(decoder.frames())
        assert new == frames[len(kept) : len(kept) + len(new)]
        kept += new
    assert len(kept) == len(frames)
    decoder.fill(source.readinto)
    with pytest.raises(ValueError, match="released"):
        bytes(kept[-1])


def test_a_large_frame_is_not_held_twice() -> None:
    big = frame([(b"k", bytes(24 * MIB))])
    tracemalloc.start()
    try:
        (out,) = feed(FrameDecoder(LIMIT), big)
        # The frame in its buffer, this test's copy of it, and a growth step of 16 MiB.
        assert tracemalloc.get_traced_memory()[1] < 2 * len(big) + 24 * MIB
    finally:
        tracemalloc.stop()
    assert out == big


def test_space_for_another_large_frame_is_allocated_at_once_and_only_when_it_begins() -> None:
    """Of many streams, each may send a large frame once a day."""

    decoder = FrameDecoder(LIMIT)
    large = frame([(b"k", bytes(24 * MIB))])
    list(feed(decoder, large))
    list(feed(decoder, frame([(b"k", bytes(700_000))]) * 10))
    assert free_bytes(decoder) < 2 * MIB
    list(feed(decoder, large[: 3 * MIB]))
    assert free_bytes(decoder) > 20 * MIB


def test_a_large_buffer_is_released_when_idle_and_after_smaller_frames() -> None:
    """Of many streams, each may have sent a large frame once."""

    def held() -> int:
        return tracemalloc.get_traced_memory()[0]

    large, smaller = frame([(b"k", bytes(30 * MIB))]), frame([(b"k", bytes(2 * MIB))])
    tracemalloc.start()
    try:
        decoder, resting = FrameDecoder(LIMIT), FrameDecoder(LIMIT)
        for one in decoder, resting:
            assert [len(out) for out in feed(one, large + smaller[:-5])] == [len(large)]
        before = held()
        resting.release_buffers()
        assert list(feed(resting, smaller[-5:])) == [smaller], "the incomplete frame is kept"
        resting.release_buffers()
        assert held() < before - 25 * MIB
        for piece in (smaller[-5:], smaller):
            list(feed(decoder, piece))
        assert held() < before - 50 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("larger", [MIB, 2 * MIB, 7 * MIB, 40 * MIB])
def test_there_is_always_space_for_half_a_mebibyte(larger: int) -> None:
    """There was less once, when a frame outgrew the last large one."""
    frames = [frame([(b"k", bytes(size))]) for size in (1_300_000, 1_300_000 + larger)]
    decoder, source, found = FrameDecoder(LIMIT), BytesIO(b"".join(frames)), []
    while free_bytes(decoder) >= MIB // 2 and decoder.fill(source.readinto):
        found += [bytes(whole) for whole in decoder.frames()]
    found += [bytes(whole) for whole in decoder.frames()]
    assert found == frames


# -- invalid bytes -------------------------------------------------------------------------------------------

GOOD = frame([(b"good", b"frame")])
TOO_MANY = frame(count=MAX_KEYS + 1)
BAD = {
    "byte order": (b"\x02" + frame()[1:13], "byte order is 2"),
    "text": (b"HTTP/1.1 400 ", "byte order is 72"),
    "version": (frame(version=2)[:13], "version is 2"),
    "version of the other order": (b"\x00" + frame()[1:13], "version is 16777216"),
    "too many keys": (TOO_MANY[:13], f"{MAX_KEYS + 1} keys"),
    "a negative number of keys": (frame(count=-1)[:13], "-1 keys"),
    "long name": (frame(count=1)[:13] + struct.pack("<Q", MAX_NAME_BYTES + 1), f"{MAX_NAME_BYTES + 1} bytes"),
    "name of 2^62": (frame(count=1)[:13] + struct.pack("<Q", 2**62), str(2**62)),
    "blob of 2^62": (frame([(b"k", b"")])[:22] + struct.pack("<Q", 2**62), "at least 4611686018427387938"),
    "blob of 2^64 - 1": (frame([(b"k", b"")])[:22] + b"\xff" * 8, f"allowed are {LIMIT}"),
    "big-endian 2^62": (frame(count=1, little=False)[:13] + struct.pack(">Q", 2**62), str(2**62)),
}


@pytest.mark.parametrize(("garbage", "why"), BAD.values(), ids=BAD.keys())
def test_garbage_is_an_error_at_its_last_byte_and_costs_no_memory(garbage: bytes, why: str) -> None:
    decoder = FrameDecoder(LIMIT)
    assert list(feed(decoder, GOOD + garbage[:-1])) == [GOOD], "the frame before it is decoded"
    tracemalloc.start()
    try:
        with pytest.raises(FrameFormatError, match=why):
            list(feed(decoder, garbage[-1:]))
        assert tracemalloc.get_traced_memory()[1] < 64 << 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_exact(over: int) -> None:
    data = frame([(b"name", bytes(1000)), (b"other", bytes(1000))])
    decoder = FrameDecoder(len(data) - over)
    if over:
        # Detected at the second blob's length, long before its last byte.
        with pytest.raises(FrameFormatError, match=f"at least {len(data)} bytes; allowed are {len(data) - 1}"):
            list(feed(decoder, data[:-1000]))
    else:
        assert list(feed(decoder, data)) == [data]


def test_the_largest_name_and_the_most_keys_are_frames() -> None:
    named = frame([(b"n" * MAX_NAME_BYTES, b"")])
    many = frame([(b"", b"")] * MAX_KEYS)
    assert decode_frames(named + many) == [named, many]


def test_good_frames_before_garbage_in_one_piece_are_yielded_first() -> None:
    decoder = FrameDecoder(LIMIT)
    stream = feed(decoder, GOOD * 3 + b"\xee" * 20)
    assert [next(stream) for _ in range(3)] == [GOOD] * 3
    with pytest.raises(FrameFormatError):
        next(stream)


@pytest.mark.parametrize("missing", [1, 4, 5, len(GOOD) - 1])
def test_decode_frames_refuses_a_truncated_last_frame_and_says_how_many_bytes_it_has(missing: int) -> None:
    with pytest.raises(FrameFormatError, match=f"cut off after {len(GOOD) - missing} bytes"):
        decode_frames(GOOD + GOOD[:-missing])


def test_no_bytes_are_no_frames() -> None:
    assert decode_frames(b"") == []


@given(st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda tail: frame(count=3)[:13] + tail)))
@settings(max_examples=200, deadline=None)
@example(frame(count=3)[:13] + bytes(16))
def test_random_bytes_give_frames_or_an_error_and_lose_nothing(data: bytes) -> None:
    decoder = FrameDecoder(MIB)
    out: list[bytes] = []
    try:
        out.extend(feed(decoder, data))
    except FrameFormatError:
        return
    assert len(b"".join(out)) + decoder.pending_bytes == len(data)
    assert data.startswith(b"".join(out))


def test_memory_grows_with_the_bytes_received_and_stays_below_the_limit() -> None:
    """A sender claims a long frame, sends it slowly, and never ends it."""
    limit = 24 * MIB
    decoder = FrameDecoder(limit)
    claim = frame(count=MAX_KEYS, code=SCAN)[:13] + struct.pack("<Q", 0) + struct.pack("<Q", limit - 100)
    tracemalloc.start()
    try:
        list(feed(decoder, claim))
        assert tracemalloc.get_traced_memory()[1] < MIB, "nothing is allocated for the claimed length"
        tracemalloc.reset_peak()
        with pytest.raises(FrameFormatError):
            feed_all(decoder, (b"\xff" * MIB for _ in range(limit // MIB + 1)))
        assert tracemalloc.get_traced_memory()[1] < 2 * limit + 17 * MIB
    finally:
        tracemalloc.stop()
