"""Frame types: the codes are those of spt3g, in either byte order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spt3g import core

from g3stream.frame_format.layout import FRAME_TYPES, FrameFormatError, key_names, parse_header
from tests.support.frames import frame


def test_frame_types_are_those_of_spt3g() -> None:
    named = core.G3FrameType.names
    assert {name: parse_header(core.G3Frame(named[name])._cereal_dumps(), 0)[2] for name in named} == FRAME_TYPES


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_frame_type_reads_any_code_in_either_byte_order(code: int, little: bool) -> None:
    assert parse_header(frame(code=code, little=little), 0)[2] == code


def test_the_names_of_a_frames_keys_are_those_that_spt3g_has() -> None:
    frame = core.G3Frame(core.G3FrameType.Scan)
    frame["sostream_id"], frame["frame_num"], frame["é"] = "crate1slot2", 7, 1.5
    data = frame._cereal_dumps()
    assert sorted(key_names(data)) == sorted(frame.keys())
    assert key_names(core.G3Frame()._cereal_dumps()) == []
    for end in range(len(data) - 4):
        with pytest.raises(FrameFormatError):
            key_names(data[:end])
