"""Positions as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g3stream.client.errors import PositionError
from g3stream.client.position import Position

EPOCHS = st.text("0123456789abcdef", min_size=16, max_size=16)


@given(
    st.integers(0, 2**62),
    st.lists(st.tuples(EPOCHS, st.integers(0, 2**62)), max_size=36),
    st.lists(EPOCHS, max_size=4),
)
def test_a_position_survives_being_stored_and_fits_the_metadata_of_a_commit(
    offset: int, epochs: list[tuple[str, int]], forgotten: list[str]
) -> None:
    position = Position("crate1slot2", offset, tuple(epochs), tuple(forgotten))
    assert Position.parse(str(position)) == position
    assert len(str(position)) < 4096


@pytest.mark.parametrize(
    "text",
    ["", "17", "{}", "[" * 5000, '{"v":1,"stream":"a/b","offset":3}', '{"v":2,"stream":"a","offset":3}',
     '{"v":1,"stream":"a","offset":-3}', '{"v":1,"stream":"a","offset":3,"more":1}'],
)  # fmt: skip
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(PositionError, match="position"):
        Position.parse(text)
