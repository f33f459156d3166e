"""What an operator sees of the hand-over to SupRsync."""

import pytest

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from archiver.suprsync.finalized_until import FinalizedUntil
from archiver.suprsync.registration import SupRsyncStatus
from archiver.suprsync.sink import Registered

NOW = 1_700_000_000.0


def status(
    behind_s: float, held_by: str | None = None, problem: str | None = None, asked_s: float = 10
) -> SupRsyncStatus:
    finalized = FinalizedUntil(round((NOW - behind_s) * 1000), round((NOW - asked_s) * 1000), held_by)
    return SupRsyncStatus("timestreams", Registered({}, ""), 7, finalized, problem)


def test_a_file_of_ten_minutes_is_worth_no_warning() -> None:
    assert list(status(610, "a: its file is open").warnings(NOW)) == []
    assert list(SupRsyncStatus("timestreams", Registered({}, ""), 0, None, None).warnings(NOW)) == []


def test_what_is_behind_for_hours_is_said_with_what_holds_it_back() -> None:
    silent = status(3 * 3600, "a: it is connected, and nothing newer has come")
    assert list(silent.warnings(NOW)) == [
        "finalized_until: 3.0 h behind: a: it is connected, and nothing newer has come"
    ]
    waits = status(3 * 3600, "a: its file is open", asked_s=9000)
    assert list(waits.warnings(NOW)) == ["finalized_until: 3.0 h behind: files wait to be registered"]


def test_why_it_is_not_brought_up_to_date_is_said() -> None:
    assert list(status(20, problem="no answer").warnings(NOW)) == ["finalized_until: no answer"]
