"""What a new client gets first is what a real G3NetworkSender sends; what a limit of the rate leaves out."""

import socket
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spt3g import core

from archiver.relay.frames import ALIVE, Frame, LatestFrames, Selection, Thinning
from g3stream.frame_format.layout import FRAME_TYPES
from testbed.child_process import free_port
from tests.support.processes import SECONDS, flow

SCAN, WIRING = FRAME_TYPES["Scan"], FRAME_TYPES["Wiring"]
SENT = (
    "Wiring",
    "none",
    "Observation",
    "Scan",
    "Timepoint",
    "none",
    "Scan",
    "PipelineInfo",
    "Wiring",
    "Housekeeping",
)


def made(name: str, number: int) -> core.G3Frame:
    found = core.G3Frame(getattr(core.G3FrameType, name))
    found["number"] = number
    return found


def relayed(found: core.G3Frame) -> Frame:
    return Frame(FRAME_TYPES[str(found.type)], found.__getstate__()[1])


def test_a_new_client_gets_first_what_a_network_sender_sends_in_its_order() -> None:
    frames = [made(name, number) for number, name in enumerate(SENT)]
    latest = LatestFrames()
    sender = core.G3NetworkSender(hostname="*", port=(port := free_port()))
    for each in frames:
        latest.add(relayed(each))
        sender.Process(each)
    expected = b"".join(data for _, data in latest.frames())
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        last = made("Scan", 99)
        sender.Process(last)  # accepts the client first
        expected += relayed(last).data
        received = b""
        while len(received) < len(expected):
            received += client.recv(1 << 16)
    assert received == expected
    latest.forget()
    assert latest.frames() == ()


def test_the_alive_frame_is_the_one_that_spt3g_writes() -> None:
    assert flow(0) == ALIVE.data


def sent(thinning: Thinning, times_and_frames: Sequence[tuple[float, Frame]]) -> list[Frame]:
    return [frame for now_s, frame in times_and_frames if thinning.sends(frame, now_s)]


def test_only_the_selected_types_are_sent() -> None:
    thinning = Thinning(Selection.of(["Scan", "Wiring"], None), 0.0)
    frames = [Frame(code, b"x") for code in FRAME_TYPES.values()]
    assert {frame.code for frame in sent(thinning, [(0.0, frame) for frame in frames])} == {SCAN, WIRING}
    assert thinning.left_out == 0


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 2), st.sampled_from([SCAN, WIRING]), st.integers(1, 5000)), max_size=200),
)
def test_scan_frames_beyond_the_rate_are_left_out_and_others_never(
    rate: int, steps: list[tuple[float, int, int]]
) -> None:
    thinning, now_s, frames = Thinning(Selection(None, rate), 0.0), 0.0, []
    for step_s, code, size in steps:
        now_s += step_s
        frames.append((now_s, Frame(code, bytes(size))))
    found = sent(thinning, frames)
    assert [frame for frame in found if frame.code == WIRING] == [
        frame for _, frame in frames if frame.code == WIRING
    ]
    scans = [len(frame.data) for frame in found if frame.code == SCAN]
    assert sum(scans[:-1]) <= rate * (now_s + 1) + 1e-3
    assert len(found) + thinning.left_out == len(frames)


def test_a_frame_larger_than_the_rate_is_sent_now_and_then() -> None:
    thinning = Thinning(Selection(None, 1000), 0.0)
    frames = [(n / 10, Frame(SCAN, bytes(5000))) for n in range(1000)]
    assert len(sent(thinning, frames)) == pytest.approx(100 * 1000 / 5000, abs=2)
