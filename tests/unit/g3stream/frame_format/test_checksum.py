"""Frame checksums: a frame has a correct one if and only if spt3g loads it."""

from hypothesis import given, settings
from hypothesis import strategies as st
from spt3g import core

from g3stream.frame_format.layout import FrameFormatError
from g3stream.frame_format.reader import read_frame
from testbed.frames import decode_frames
from tests.support.frames import ANY_FRAME


def spt3g_loads(data: bytes) -> bool:
    core.G3Logger.global_logger = core.G3MultiLogger([])  # otherwise it prints each error
    try:
        core.G3Frame()._cereal_loads(data)
    except (RuntimeError, ValueError):
        return False
    return True


@given(ANY_FRAME, st.data(), st.sampled_from([bytes, memoryview]))
@settings(max_examples=300, deadline=None)
def test_a_frame_is_valid_exactly_where_spt3g_loads_it(data: bytes, draw: st.DataObject, kind: type) -> None:
    assert read_frame(kind(data), ()) is not None
    assert spt3g_loads(data)
    damaged = bytearray(data)
    damaged[draw.draw(st.integers(0, len(data) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        found = decode_frames(bytes(damaged))
    except FrameFormatError:
        return
    for each in found:
        assert (read_frame(kind(each), ()) is not None) == spt3g_loads(each)
