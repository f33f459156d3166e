"""What a frame says is read from spt3g's frames; a damaged or hostile one is rejected, and harms nothing."""

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spt3g import core

from g3stream.contract.headers import Kind
from g3stream.frame_format.layout import FrameFormatError
from ingest.receive.frame_info import FrameInfo, RejectedFrame, read_frame_info
from testbed.frames import decode_frames
from tests.support.frames import ANY_FRAME, SCAN, blob, frame, frame_with, long_string, nested

DATA = Path(__file__).parents[2] / "data"


# -- flow control ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "kind"), [(0, None), (1, Kind.START), (2, Kind.END), (3, None)])
@pytest.mark.parametrize("code", [ord("N"), ord("O"), ord("S"), 7])
def test_flow_control_in_a_frame_of_any_type(value: int, kind: Kind | None, code: int) -> None:
    assert read_frame_info(frame_with(code, sostream_flowcontrol=value)) == FrameInfo(kind, code)


@pytest.mark.parametrize("value", [4, -1, 2**63 - 1, -(2**63)])
def test_flow_control_of_another_value_is_rejected(value: int) -> None:
    with pytest.raises(RejectedFrame, match=f"sostream_flowcontrol is {value}$"):
        read_frame_info(frame_with(sostream_flowcontrol=value))


@pytest.mark.parametrize("value", [True, False, "1", "START", 1.0, 0.0, core.G3VectorInt([1]), core.G3Time(1)])
def test_flow_control_of_another_type_is_rejected(value: object) -> None:
    with pytest.raises(RejectedFrame, match="no integer"):
        read_frame_info(frame_with(sostream_flowcontrol=value))


@pytest.mark.parametrize("value", [b"", b"\x01", b"garbage that is no object", blob(core.G3Int(1))[:-1]])
def test_flow_control_that_cannot_be_read_is_rejected(value: bytes) -> None:
    with pytest.raises(RejectedFrame, match="no integer"):
        read_frame_info(frame([(b"sostream_flowcontrol", value)]))


def test_a_none_frame_without_flow_control_is_data() -> None:
    assert read_frame_info(frame(code=ord("N"))) == FrameInfo(Kind.FRAME, ord("N"))


# -- stream id, session, number -------------------------------------------------------------------------------


def test_a_data_frame_says_all_of_it() -> None:
    data = frame_with(sostream_id="crate1slot2", session_id=1_500_000_000, frame_num=-3, time=core.G3Time(5))
    info = FrameInfo(Kind.FRAME, SCAN, "crate1slot2", 1_500_000_000, -3)
    assert read_frame_info(data) == info
    assert read_frame_info(memoryview(data)) == info, "large frames come so"


@pytest.mark.parametrize("name", ["a", "A-b_9", "0", "x" * 64])
def test_valid_ids_are_used(name: str) -> None:
    info = read_frame_info(frame_with(sostream_id=name))
    assert (info.id, info.bad_id) == (name, False)


@pytest.mark.parametrize(
    "value",
    ["../../etc", "", "x" * 65, "a b", "a\n", "a\0", "-a", "_a", ".", "é", 5, True, 1.5, core.G3VectorString(["a"])],
)
def test_an_invalid_id_is_not_used_and_flagged(value: object) -> None:
    assert read_frame_info(frame_with(sostream_id=value, frame_num=4)) == FrameInfo(
        Kind.FRAME, SCAN, num=4, bad_id=True
    )


@pytest.mark.parametrize(
    "value", [b"", b"zzz", blob(core.G3String("abc"))[:-1], blob(core.G3String("abc"))[:-3] + b"\xff" * 3]
)
def test_an_id_that_cannot_be_read_is_not_used_and_flagged(value: bytes) -> None:
    assert read_frame_info(frame([(b"sostream_id", value)])) == FrameInfo(Kind.FRAME, SCAN, bad_id=True)


def test_an_end_with_a_bad_id_is_still_an_end() -> None:
    assert read_frame_info(frame_with(sostream_flowcontrol=2, sostream_id="..")) == FrameInfo(
        Kind.END, SCAN, bad_id=True
    )


def test_a_frame_without_keys_says_its_type_only() -> None:
    assert read_frame_info(frame(code=2**32 - 1)) == FrameInfo(Kind.FRAME, 2**32 - 1)


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, -(2**63)])
def test_every_int64_is_a_number(number: int) -> None:
    assert read_frame_info(frame_with(session_id=number, frame_num=number)) == FrameInfo(
        Kind.FRAME, SCAN, None, number, number
    )


@pytest.mark.parametrize(
    "value", [True, 1.0, float(2**63), 1e300, float("nan"), "1", core.G3Time(1), core.G3VectorInt([1])]
)
def test_what_is_no_integer_is_no_number(value: object) -> None:
    assert read_frame_info(frame_with(session_id=value, frame_num=value)) == FrameInfo(Kind.FRAME, SCAN)


@pytest.mark.parametrize("little", [True, False])
def test_keys_in_a_frame_of_either_byte_order(little: bool) -> None:
    keys = [(b"sostream_id", blob(core.G3String("slot"))), (b"frame_num", blob(core.G3Int(9)))]
    assert read_frame_info(frame(keys, little=little)) == FrameInfo(Kind.FRAME, SCAN, "slot", num=9)


def test_keys_that_are_not_utf8_are_no_obstacle() -> None:
    keys = [(b"\xff\xfe\xc0", b"x"), (b"", b""), (b"\0", b"y"), (b"frame_num", blob(core.G3Int(9)))]
    assert read_frame_info(frame(keys)) == FrameInfo(Kind.FRAME, SCAN, num=9)


@given(ANY_FRAME)
@settings(max_examples=50, deadline=None)
def test_any_whole_frame_is_data(data: bytes) -> None:
    assert read_frame_info(data).kind is Kind.FRAME


# -- real streams ---------------------------------------------------------------------------------------------


def test_a_real_session() -> None:
    infos = [read_frame_info(data) for data in decode_frames((DATA / "smurf-session.g3").read_bytes())]
    kinds = [one.kind for one in infos]
    assert Kind.START in kinds
    assert Kind.END in kinds
    assert kinds.index(Kind.START) < kinds.index(Kind.FRAME) < kinds.index(Kind.END)
    data = [one for one in infos if one.kind is Kind.FRAME and one.type == SCAN]
    assert len({one.id for one in data}) == len({one.session for one in data}) == 1
    numbers = [one.num for one in data if one.num is not None]
    assert len(numbers) == len(data)
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("name", ["smurf-session.g3", "smurf-slot.g3"])
def test_every_real_frame_says_what_spt3g_reads(name: str) -> None:
    for data in decode_frames((DATA / name).read_bytes()):
        oracle = core.G3Frame()
        oracle._cereal_loads(data)
        info = read_frame_info(data)
        assert not info.bad_id
        assert info.id == oracle.get("sostream_id")
        assert info.session == oracle.get("session_id")
        assert info.num == oracle.get("frame_num")


# -- damage ---------------------------------------------------------------------------------------------------

SMALL = frame_with(sostream_id="crate1slot2", session_id=1, frame_num=2)


def read_all(data: bytes) -> list[FrameInfo]:
    """As ingest reads: only what the decoder lets through, with lengths that fit."""
    return [read_frame_info(whole) for whole in decode_frames(data, 1 << 20)]


@pytest.mark.parametrize("little", [True, False])
def test_a_flipped_bit_anywhere_stops_a_frame_unless_it_is_in_the_type(little: bool) -> None:
    keys = [(b"sostream_id", blob(core.G3String("slot"))), (b"frame_num", blob(core.G3Int(2)))]
    good = frame(keys, little=little)
    for at in range(len(good)):
        for bit in range(8):
            damaged = bytearray(good)
            damaged[at] ^= 1 << bit
            if 9 <= at < 13:  # the CRC doesn't cover the type
                assert read_frame_info(bytes(damaged)).num == 2
                continue
            with pytest.raises((FrameFormatError, RejectedFrame)) as stopped:
                read_all(bytes(damaged))
            assert 0 < len(str(stopped.value)) <= 200
            assert str(stopped.value).isprintable()


def test_a_flipped_bit_in_a_large_frame_is_rejected() -> None:
    data = bytearray(frame([(b"data", random.Random(1).randbytes(300_000))]))
    for at in random.Random(2).sample(range(13 + 8, len(data)), 40):
        data[at] ^= 4
        with pytest.raises(RejectedFrame):
            read_frame_info(memoryview(data))
        data[at] ^= 4
    assert read_frame_info(memoryview(data)).kind is Kind.FRAME


@pytest.mark.parametrize("length", range(0, len(SMALL), 7))
def test_a_cut_frame_is_rejected(length: int) -> None:
    with pytest.raises(RejectedFrame):
        read_frame_info(SMALL[:length])


def test_nothing_is_printed_about_a_damaged_frame(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RejectedFrame, match=r"(?i)checksum|crc"):
        read_frame_info(SMALL[:-1] + bytes([SMALL[-1] ^ 1]))
    assert capfd.readouterr() == ("", "")


# -- hostility ------------------------------------------------------------------------------------------------

# Each line read is a frame in hex; each line written reports that it was survived, and the most memory so far.
_VICTIM = """
import resource, sys
from ingest.receive.frame_info import RejectedFrame, read_frame_info
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for line in sys.stdin:
    try:
        read_frame_info(bytes.fromhex(line))
    except RejectedFrame:
        pass
    (peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak.split()[1], flush=True)
"""


def survive(hostile: list[bytes]) -> int:
    """Read the frames in another process, which may crash; its largest memory in MiB, when it has read all."""
    done = subprocess.run(
        [sys.executable, "-c", _VICTIM],
        input="\n".join(data.hex() for data in hostile),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = done.stdout.splitlines()
    assert done.returncode == 0, f"exit code {done.returncode} at frame {len(answers)}: {done.stderr[-500:]}"
    assert len(answers) == len(hostile)
    return int(answers[-1]) >> 10


def test_hostile_bytes_crash_nothing() -> None:
    """Right CRCs over objects with flipped, cut, swapped and random bytes, in the keys that are read."""
    dice = random.Random(3)
    values = [5, "crate1slot2", 1.5, True, core.G3VectorInt([1, 2]), core.G3VectorString(["a", "b"]), core.G3Time(3)]
    values += [core.G3MapDouble({"a": 1.0}), core.G3Timestream([1.0, 2.0]), core.G3VectorFrameObject([core.G3Int(1)])]
    good = [blob(value) for value in values]
    names = [b"sostream_flowcontrol", b"sostream_id", b"session_id", b"frame_num"]

    def hostile() -> bytes:
        damaged = bytearray(dice.choice(good))
        for _ in range(dice.randrange(4)):
            at = dice.randrange(len(damaged))
            # Bytes 3 and up of a length promise more than 16 MiB; that costs memory, and has a test of its own.
            if damaged[at] or dice.random() < 0.2:
                damaged[at] = dice.choice([0, 1, 2, 4, dice.randrange(256)])
        return bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged) + 1)])])

    frames = [frame([(name, hostile()) for name in names]) for _ in range(150)]
    frames += [frame([(name, dice.randbytes(dice.randrange(60))) for name in names]) for _ in range(100)]
    survive(frames)


@given(st.binary(max_size=120), st.booleans())
@settings(max_examples=100, deadline=None)
def test_random_bytes_in_a_whole_frame_are_read_if_its_crc_is_right(tail: bytes, little: bool) -> None:
    data = frame([(b"frame_num", tail), (b"other " + tail[:40], tail)], little=little)
    assert read_frame_info(data).type == SCAN
    if (broken := data[:-4] + tail[:4].ljust(4, b"!")) != data:
        with pytest.raises(RejectedFrame):
            read_frame_info(broken)


def test_an_impossible_length_inside_a_value_costs_nothing() -> None:
    assert survive([frame([(b"sostream_id", long_string(promised))]) for promised in (2**40, 2**62, 2**64 - 1)]) < 200


def test_a_large_length_inside_a_value_costs_nothing() -> None:
    assert survive([frame([(b"sostream_id", long_string(600 << 20))])]) < 200


def test_deeply_nested_objects_crash_nothing() -> None:
    survive([frame([(b"frame_num", nested(100_000))])])


def test_nested_objects_in_a_key_that_is_not_read_are_data() -> None:
    survive([frame([(b"other", nested(100_000))])])
