"""Producer epochs of one spool are ordered whatever the clock says; those of different spools are not."""

import re

from hypothesis import given
from hypothesis import strategies as st

from g3stream.contract.producer_epoch import RANDOM_BITS, mark_of, new_epoch

clocks = st.integers(-(2**40), 2**42)  # ms: until the year 2109
random_bits = st.integers(0, 2**RANDOM_BITS - 1)


@given(st.lists(st.tuples(clocks, random_bits), min_size=1, max_size=20))
def test_each_start_with_the_same_spool_has_a_later_epoch(starts: list[tuple[int, int]]) -> None:
    epochs: list[str] = []
    for now_ms, random in starts:
        epochs.append(new_epoch(epochs[-1] if epochs else None, now_ms, random))
    assert all(re.fullmatch("[0-9a-f]{16}", epoch) for epoch in epochs), "as the contract has always had them"
    assert epochs == sorted(set(epochs))
    assert len({mark_of(epoch) for epoch in epochs}) == 1


@given(clocks, random_bits, random_bits)
def test_a_new_spool_has_a_mark_of_its_own(now_ms: int, one: int, other: int) -> None:
    same = one & 0xFFFFF == other & 0xFFFFF
    assert (mark_of(new_epoch(None, now_ms, one)) == mark_of(new_epoch(None, now_ms, other))) == same


def test_an_older_versions_epoch_is_continued() -> None:
    assert new_epoch("83a" + "0" * 13, 1_796_000_000_000, 5) > "83a" + "0" * 13
    assert mark_of(new_epoch("83a00000000fedcb", 1_796_000_000_000, 5)) == "fedcb"


def test_after_the_latest_possible_epoch_it_continues_as_a_new_spool() -> None:
    assert new_epoch("fffffffff01abcde", 1_796_000_000_000, 5) == f"{17_960_000_000:09x}0000005"


def test_a_spool_restored_from_a_backup_makes_other_epochs() -> None:
    assert new_epoch("42fffffff01abcde", 0, 0x1000000) != new_epoch("42fffffff01abcde", 0, 0x2000000)
