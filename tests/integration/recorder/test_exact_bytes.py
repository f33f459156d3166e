"""The bytes of a recorded frame are those that were on the wire, whatever the frame holds."""

import random
from pathlib import Path

import pytest
from spt3g import core

from testbed.frames import decode_frames
from tests.support.processes import RawSender, Recorder, flow, frame, frame_by_hand, scan

BLOB = frame(core.G3FrameType.Scan, k=core.G3String("five"))[13 + 8 + 1 + 8 : -4]
"""A value as spt3g serializes it: what stands between a frame's header, name and lengths, and its CRC."""


def record(recorder: Recorder, wire: bytes, seed: int) -> list[bytes]:
    """Send these bytes, cut anywhere, and give the finished files."""
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            cuts, at = random.Random(seed), 0
            while at < len(wire):
                size = cuts.choice((1, 12, 13, 1000, 65_536, 3_000_000))
                connection.sendall(wire[at : at + size])
                at += size
            archiver.await_line(r"finished .* \(end\)")
    return [path.read_bytes() for path in recorder.files()]


def test_frames_of_all_sizes_and_kinds(recorder: Recorder, tmp_path: Path) -> None:
    rng = random.Random(5)
    scan_code = ord("S")
    frames = [
        frame_by_hand([], scan_code),
        frame_by_hand([], scan_code, ">"),
        frame(core.G3FrameType.none, nothing="a frame of type none without flow control is data"),
        frame_by_hand([("empty", b"")], scan_code),
    ]
    # Keys in an order that spt3g would not keep: it writes them sorted, or reversed.
    for count in range(1, 41):
        keys = [f"key-{number}" for number in rng.sample(range(1000), count)]
        frames.append(frame_by_hand([(key, BLOB) for key in keys], scan_code, rng.choice("<>")))
    frames += [frame_by_hand([("x", BLOB)], code, rng.choice("<>")) for code in (0, 1, 0x41424344, 0xFFFFFFFF)]
    frames += [frame_by_hand([("f", BLOB), ("data", rng.randbytes(size))], scan_code) for size in (20_000, 2_000_000)]
    # At, and around, the size at which a record is split.
    frames += [
        frame_by_hand([("d", rng.randbytes(size))], scan_code) for size in (999_965, 999_966, 999_967, 1_999_966)
    ]
    rng.shuffle(frames)
    frames.insert(len(frames) // 2, frame_by_hand([("d", rng.randbytes(30_000_000)), ("f", BLOB)], scan_code))

    files = record(recorder, b"".join(frames) + flow(2), 1)

    assert len(files) == 1
    assert files[0] == b"".join(frames)
    path = tmp_path / "read.g3"
    path.write_bytes(files[0])
    assert len(list(core.G3File(str(path)))) == len(frames)


@pytest.mark.parametrize("name", ["smurf-session", "smurf-slot"])
def test_a_smurfs_own_bytes(recorder: Recorder, name: str) -> None:
    wire = (Path(__file__).parents[2] / "data" / f"{name}.g3").read_bytes()
    expected = []
    for data in decode_frames(wire):
        read = core.G3Frame()
        read._cereal_loads(data)
        if "sostream_flowcontrol" not in read:
            expected.append(data)
    assert record(recorder, wire, 2) == [b"".join(expected)]


def test_the_order_of_many_frames(recorder: Recorder) -> None:
    frames = [scan(number, 20_000) for number in range(2_000)]
    assert record(recorder, b"".join(frames) + flow(2), 3) == [b"".join(frames)]
