"""What is kept of a live stream, and where a new client begins."""

from hypothesis import given
from hypothesis import strategies as st

from archiver.relay.frames import Frame, LatestFrames
from archiver.relay.live_stream import CATCH_UP_S, Beginning, LiveStream
from g3stream.frame_format.layout import FRAME_TYPES

SCAN, WIRING = (FRAME_TYPES[name] for name in ("Scan", "Wiring"))
OLD = Frame(WIRING, b"old")
LATER_S = 2 * CATCH_UP_S


def scan(number: int) -> Frame:
    return Frame(SCAN, b"%d" % number)


def attached(max_bytes: int = 1 << 20) -> LiveStream:
    """A stream whose connection began before the relay."""
    latest = LatestFrames()
    latest.add(OLD)
    return LiveStream(max_bytes, latest)


@given(st.lists(st.integers(0, 3000), min_size=1), st.integers(1, 10_000))
def test_the_newest_frames_are_kept_as_far_as_they_fit_and_one_always(sizes: list[int], max_bytes: int) -> None:
    stream, frames = LiveStream(max_bytes, LatestFrames()), [Frame(SCAN, bytes(size)) for size in sizes]
    for frame in frames:
        stream.add(frame, 0.0)
    kept = [stream[position] for position in range(stream.first, stream.end)]
    assert kept
    assert stream.end == len(frames)
    assert kept == frames[stream.first :]
    assert stream.bytes <= max_bytes or len(kept) == 1
    assert sum(sizes[stream.first :]) <= stream.bytes


def test_a_client_gets_the_latest_frames_and_what_comes() -> None:
    stream = attached()
    stream.add(scan(0), 0.0)
    assert stream.beginning(0.0) == Beginning((OLD,), 1)
    stream.add(new := Frame(WIRING, b"new"), 0.0)
    stream.add(Frame(FRAME_TYPES["none"], b"ALIVE"), 0.0, is_resent=False)
    assert stream.beginning(0.0) == Beginning((new,), 3)


def test_a_client_that_returns_soon_gets_all_of_the_new_connection_and_any_other_the_latest() -> None:
    stream = attached()
    assert stream.end_connection()
    assert (stream[0], stream.beginning(0.0, 1)) == (None, Beginning((), 1))
    assert stream.beginning(LATER_S, 1) == Beginning((), 1)
    stream.add(wiring := Frame(WIRING, b"1"), LATER_S)
    stream.add(scan(2), LATER_S)
    assert stream.beginning(LATER_S + CATCH_UP_S, 1) == Beginning((), 1)
    assert stream.beginning(LATER_S + CATCH_UP_S) == Beginning((wiring,), 3)
    assert stream.beginning(LATER_S + CATCH_UP_S + 1, 1) == Beginning((wiring,), 3)


def test_a_client_that_returns_also_gets_a_connection_that_has_ended_since() -> None:
    stream = attached()
    stream.end_connection()
    stream.add(scan(1), 0.0)
    stream.end_connection()
    stream.add(scan(3), LATER_S)
    assert stream.beginning(CATCH_UP_S, 1) == Beginning((), 1)
    assert [stream[position] for position in (1, 2, 3)] == [scan(1), None, scan(3)]
    assert stream.beginning(LATER_S, 1) == Beginning((), 4)
    assert stream.beginning(LATER_S, 3) == Beginning((), 3)


def test_a_client_that_returns_gets_the_latest_if_the_first_frames_are_not_kept_any_more() -> None:
    stream = LiveStream(1000, LatestFrames())
    stream.add(scan(0), 0.0)
    stream.end_connection()
    stream.add(wiring := Frame(WIRING, bytes(500)), 0.0)
    stream.add(Frame(SCAN, bytes(500)), 0.0)
    assert stream.beginning(0.0, 2) == Beginning((wiring,), 4)


def test_the_end_of_a_connection_without_frames_closes_no_client() -> None:
    stream = LiveStream(1 << 20, LatestFrames())
    for _ in range(3):
        assert not stream.end_connection()
    assert stream.end == 0
    stream.add(scan(0), 0.0)
    for _ in range(3):
        stream.end_connection()
    assert [stream[position] for position in range(stream.end)] == [scan(0), None]


def test_small_frames_are_given_together_up_to_a_size_and_the_end_alone() -> None:
    stream, frames = LiveStream(1 << 20, LatestFrames()), [Frame(SCAN, bytes(size)) for size in (40, 50, 20, 500)]
    for frame in frames:
        stream.add(frame, 0.0)
    stream.end_connection()
    given = [stream.frames(position, 100) for position in range(5)]
    assert given == [frames[:2], frames[1:3], frames[2:3], frames[3:], []]
