"""The phases of a recorder: what isn't in the table can't happen unseen."""

import pytest

from archiver.core.segmentation import CloseReason
from archiver.recording.lifecycle import FOLLOWING, Closing, Halted, Phase, Recording, Recovering, Released, following

RELEASED = Released(None, None)
PHASES: list[Phase] = [Recovering(), Recording(), Closing(CloseReason.GAP), Halted("why"), RELEASED]


@pytest.mark.parametrize("before", PHASES, ids=lambda phase: type(phase).__name__)
@pytest.mark.parametrize("after", PHASES, ids=lambda phase: type(phase).__name__)
def test_a_phase_follows_only_where_the_table_has_it(before: Phase, after: Phase) -> None:
    if type(after) in FOLLOWING[type(before)]:
        assert following(before, after) is after
    else:
        with pytest.raises(AssertionError, match="can't follow"):
            following(before, after)


def test_any_phase_can_be_released_and_nothing_follows_that() -> None:
    assert [phase for phase, after in FOLLOWING.items() if Released not in after] == [Released]
    assert FOLLOWING[Released] == ()


def test_each_phase_can_be_reached() -> None:
    reached: set[type[Phase]] = {Recovering}
    new = reached
    while new:
        new = {after for phase in new for after in FOLLOWING[phase]} - reached
        reached |= new
    assert reached == FOLLOWING.keys()
