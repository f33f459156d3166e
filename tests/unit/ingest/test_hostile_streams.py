"""Hostile bytes from a sender: no crash, no hang, no memory beyond the limit, and every good frame that can be known.

What is hostile is made by mutation of what is good, so that it comes far. Random tests print their seed; FAULTS_SEED
takes it again.
"""

import random
import struct
import subprocess
import sys
import tracemalloc
from io import BytesIO
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from spt3g import core

from g3stream.frame_format.decoder import FrameDecoder
from g3stream.frame_format.layout import MAX_NAME_BYTES, FrameFormatError
from ingest.receive.record_builder import RecordBuilder
from testbed.frames import decode_frames
from tests.support.frames import ANY_FRAME, blob, crc, frame, frame_with, nested
from tests.support.wire_model import End, Reading, read

DATA = Path(__file__).parents[2] / "data"
LIMIT = 2048
LENGTHS = [0, 1, 255, 2**16 - 1, 2**16, 2**20, 2**31 - 1, 2**31, 2**32, 2**62, 2**63, 2**64 - 1]


# -- the stream of bytes --------------------------------------------------------------------------------------


def good(number: int) -> bytes:
    """A good frame, of that frame_num."""
    return frame_with(sostream_id="crate1slot2", frame_num=number)


def received(pieces: list[bytes], limit: int) -> Reading:
    """What ingest makes of them: its decoder and its record builder."""
    decoder, builder = FrameDecoder(limit), RecordBuilder("0" * 16, None, False)
    taken: list[bytes] = []
    rejected: list[bytes] = []
    end = End.WHOLE
    seqs = []
    try:
        for piece in pieces:
            decoder.fill(BytesIO(piece).readinto)
            for whole in decoder.frames():
                record = builder.received(whole, 0)
                assert record, "none of these is discarded"
                (rejected if record.rejected else taken).append(bytes(record.value))
                if not record.rejected:
                    seqs.append(record.headers.seq)
        if decoder.pending_bytes:
            end = End.CUT
    except FrameFormatError:
        end = End.GARBAGE
    assert seqs == list(range(len(taken))), "no number is left out, or it would be a loss"
    return Reading(taken, rejected, end, decoder.pending_bytes if end is End.CUT else 0)


def cut(stream: bytes, dice: random.Random) -> list[bytes]:
    """As TCP may bring it."""
    cuts = sorted(dice.sample(range(len(stream) + 1), min(dice.randrange(4), len(stream) + 1)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


def test_every_bit_of_a_frame_flipped_in_turn(dice: random.Random) -> None:
    """Whatever bit it is, every good frame that can be recognised is taken, and nothing else."""
    after = [good(number) for number in range(1, 1 + 2 * LIMIT // len(good(0)))]
    swallowed = dropped = 0
    for at in range(len(good(0))):
        for bit in range(8):
            flipped = bytearray(good(99))
            flipped[at] ^= 1 << bit
            stream = good(0) + flipped + b"".join(after)
            got = received(cut(stream, dice), LIMIT)
            assert got == read(stream, LIMIT), (at, bit)
            assert got.good[0] == good(0)
            assert set(got.good) <= {good(0), *after} or 9 <= at < 13, "the CRC covers all but the type"
            if got.end is End.WHOLE and len(got.rejected) == 1:
                assert got.rejected == [bytes(flipped)]
                assert got.good[1:] == after, "it costs no other"
            elif got.end is End.WHOLE:
                assert 9 <= at < 13
                assert got.good == [good(0), bytes(flipped), *after], "nobody can know"
            else:
                # A length, or the header. The connection is lost: at once, or as soon as the sender pauses.
                swallowed += got.end is End.CUT
                dropped += got.end is End.GARBAGE
                assert got.cut <= LIMIT + MAX_NAME_BYTES
    assert swallowed
    assert dropped


@st.composite
def damaged_streams(draw: st.DrawFn) -> bytes:
    """Good frames, of which one or a few were damaged on the way."""
    frames = draw(st.lists(ANY_FRAME, min_size=1, max_size=6))
    stream = bytearray(b"".join(frames))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(stream) - 1)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "length", "count", "double"]))
        if how == "flip" and stream:
            stream[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del stream[at : at + draw(st.integers(1, 40))]
        elif how == "insert":
            stream[at:at] = draw(st.binary(max_size=40))
        elif how == "length":
            at = draw(st.sampled_from([13, 13, at]))
            stream[at : at + 8] = struct.pack(draw(st.sampled_from("<>")) + "Q", draw(st.sampled_from(LENGTHS)))
        elif how == "count":
            stream[5:9] = struct.pack("<i", draw(st.sampled_from([-1, 0, 1, 2, 100_000, 100_001, 2**31 - 1])))
        else:
            stream[at:at] = stream[: draw(st.integers(0, 60))]
    return bytes(stream)


@given(damaged_streams(), st.randoms(use_true_random=False), st.sampled_from([200, LIMIT, 1 << 20]))
@settings(max_examples=150, deadline=None)
def test_damaged_streams_give_all_that_can_be_known_and_nothing_else(
    stream: bytes, dice: random.Random, limit: int
) -> None:
    pieces = cut(stream, dice)
    expected = read(stream, limit)
    tracemalloc.start()
    try:
        got = received(pieces, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == expected
    assert peak < 4 * len(stream) + (4 << 20), "the decoder's first buffer is 1 MiB; other threads have some, too"


# -- what spt3g is given --------------------------------------------------------------------------------------

# Each line read is a stream of bytes in hex, read as ingest reads it; each line written reports that it was survived,
# how many frames were taken (or refused only for what they say of flow control), the largest memory so far in kB.
_VICTIM = """
import io, resource, sys
from ingest.receive.frame_info import RejectedFrame, read_frame_info
from g3stream.frame_format.decoder import FrameDecoder
from g3stream.frame_format.layout import FrameFormatError
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for line in sys.stdin:
    data = bytes.fromhex(line)
    taken = 0
    decoder = FrameDecoder(64 << 20)
    try:
        for at in range(0, len(data), 1 << 18):
            piece = data[at : at + (1 << 18)]
            decoder.fill(io.BytesIO(piece).readinto)
            for whole in decoder.frames():
                try:
                    read_frame_info(whole)
                    taken += 1
                except RejectedFrame as why:
                    taken += "sostream_flowcontrol" in str(why)
                    assert str(why).isprintable() and len(str(why)) <= 200, str(why)
    except FrameFormatError as why:
        assert str(why).isprintable() and len(str(why)) <= 200, str(why)
    (peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(taken, peak.split()[1], flush=True)
"""


def survived(streams: list[bytes]) -> tuple[int, int]:
    """Read them in another process, which may crash: how many frames were taken, and its largest memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        input="\n".join(stream.hex() for stream in streams),
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    answers = done.stdout.splitlines()
    if done.returncode:
        print(f"stream {len(answers)}: {streams[len(answers)][:4000].hex()}")
    assert done.returncode == 0, f"exit code {done.returncode} at stream {len(answers)}: {done.stderr[-500:]}"
    assert len(answers) == len(streams)
    return sum(int(answer.split()[0]) for answer in answers), int(answers[-1].split()[1]) >> 10


def keys_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """A little-endian frame's names and blobs."""
    at, found = 13, []
    for _ in range(struct.unpack_from("<i", data, 5)[0]):
        pair = []
        for _ in range(2):
            (length,) = struct.unpack_from("<Q", data, at)
            pair.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        found.append((pair[0], pair[1]))
    return found


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Some of these bytes changed: what a parser takes for lengths, most of all."""
    out = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(out) + 1)
        how = dice.randrange(4)
        if how == 0:
            size = dice.choice([4, 8])
            out[at : at + size] = (dice.choice(LENGTHS) % 256**size).to_bytes(size, "little")
        elif how == 1:
            del out[at : at + dice.randrange(1, 30)]
        elif how == 2:
            out[at:at] = out[: dice.randrange(60)]
        elif at < len(out):
            out[at] ^= 1 << dice.randrange(8)
    return bytes(out)


def hostile_values() -> list[bytes]:
    """Blobs of containers in containers, for damage inside them."""
    inner = core.G3VectorFrameObject([core.G3Int(1), core.G3String("x" * 40), core.G3Timestream([1.0] * 20)])
    tree = core.G3MapFrameObject()
    tree["a"], tree["b"] = inner, core.G3MapVectorDouble({"x": [1.0, 2.0]})
    stamps = core.G3TimestreamMap({"a": core.G3Timestream([1.0] * 9), "b": core.G3Timestream([2.0] * 9)})
    return [
        *(
            blob(value)
            for value in (inner, tree, stamps, core.G3VectorString(["a", "bc"]), core.G3VectorBool([True]))
        ),
        nested(50),
        nested(20_000),
    ]


def test_mutations_of_real_frames_and_of_nested_containers_harm_nothing(dice: random.Random) -> None:
    """With right CRCs, so that spt3g has no reason to refuse them before it looks inside."""
    real = [
        data for name in ("smurf-session.g3", "smurf-slot.g3") for data in decode_frames((DATA / name).read_bytes())
    ]
    real = [data for data in real if len(data) < 20_000 and keys_of(data)]
    values = hostile_values()
    streams = []
    for _ in range(300):
        data = dice.choice(real)
        keys = keys_of(data)
        for _ in range(dice.randrange(1, 4)):
            at = dice.randrange(len(keys))
            name, value = keys[at]
            value = dice.choice([value, dice.choice(values)])
            keys[at] = (dice.choice([name, name, damaged(name, dice)]), damaged(value, dice))
        keys += dice.choice([[], [dice.choice(keys)]])  # one of them twice
        streams.append(frame(keys, struct.unpack_from("<I", data, 9)[0]) + real[0])
    taken, mib = survived(streams)
    assert taken == 2 * len(streams), "their CRCs are right: they are data, and so is the frame after each"
    assert mib < 200


def test_mutations_of_whole_streams_harm_nothing(dice: random.Random) -> None:
    """Anywhere in the bytes of several frames; some with a CRC that is right for the changed bytes."""
    real = decode_frames((DATA / "smurf-session.g3").read_bytes())[:40]
    streams = []
    for _ in range(200):
        stream = damaged(b"".join(dice.sample(real, 3)), dice)
        streams.append(stream)
        if len(stream) > 30:
            body = stream[13:-4]
            streams.append(stream[:13] + body + struct.pack("<I", crc(body)))
    assert survived(streams)[1] < 200


def test_lengths_that_are_promised_cost_nothing() -> None:
    streams = []
    head = frame(count=2)[:13]
    for promise in (struct.pack("<Q", length) for length in LENGTHS[5:]):
        streams += [
            head + promise,
            head + promise + bytes(1000),
            head + struct.pack("<Q", 3) + b"key" + promise + bytes(1000),
            head + struct.pack("<Q", 3) + b"key" + struct.pack("<Q", 0) + promise + bytes(1000),
            frame([(b"key", promise * 9), (b"sostream_id", promise * 9), (b"frame_num", promise)]),
        ]
    taken, mib = survived(streams)
    assert taken == len(streams) // 5
    assert mib < 200
