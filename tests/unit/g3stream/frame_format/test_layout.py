"""Frame types: the codes are those of spt3g, in either byte order."""

from hypothesis import given
from hypothesis import strategies as st
from spt3g import core

from g3stream.frame_format.layout import FRAME_TYPES, parse_header
from tests.support.frames import frame


def test_frame_types_are_those_of_spt3g() -> None:
    named = core.G3FrameType.names
    assert {name: parse_header(core.G3Frame(named[name])._cereal_dumps(), 0)[2] for name in named} == FRAME_TYPES


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_frame_type_reads_any_code_in_either_byte_order(code: int, little: bool) -> None:
    assert parse_header(frame(code=code, little=little), 0)[2] == code
