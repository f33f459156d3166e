"""Which files are retired by what an operator asks for; nothing that is there is retired unless it is named."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.console.tables import plain
from archiver.core.catalog import FileCatalog, FileEvent
from archiver.core.events import Event, FileRetired
from archiver.operations.retire_files import as_text
from archiver.operations.retirement import (
    RetirementOutcome,
    adoption_event,
    end_ms,
    plan_missing,
    plan_named,
    wrong_directory_reason,
)
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, STREAM, adopted, finished, retired

FILES = [finished(number) for number in range(4)]
BEFORE = adopted(f"15462/{STREAM}/1546200000_000.g3")
EVENTS: list[Event] = [*FILES, SALVAGED, BEFORE]
PATHS = [file.path for file in FILES]


def outcomes(names: Sequence[str], there: Sequence[str], *more: Event) -> dict[str, RetirementOutcome]:
    return {it.path: it.outcome for it in plan_named(FileCatalog.from_events([*EVENTS, *more]), there, names).items}


def test_what_is_named_is_retired_whether_it_is_there_or_not() -> None:
    names = [*PATHS[:3], "15463/x/2019-01-01-12-00-00_000.g3", "/etc/passwd"]
    assert outcomes(names, PATHS[1:], retired(FILES[2])) == {
        PATHS[0]: RetirementOutcome.RETIRED,
        PATHS[1]: RetirementOutcome.STILL_THERE,
        PATHS[2]: RetirementOutcome.RETIRED_BEFORE,
        "15463/x/2019-01-01-12-00-00_000.g3": RetirementOutcome.UNKNOWN,
        "/etc/passwd": RetirementOutcome.UNKNOWN,
    }


@pytest.mark.parametrize("directory", ["15463", f"15463/{STREAM}"])
def test_a_directory_stands_for_the_recorded_files_in_it(directory: str) -> None:
    assert set(outcomes([directory], [])) == {*PATHS, SALVAGED.path}
    assert set(outcomes([directory, PATHS[0]], [])) == {*PATHS, SALVAGED.path}


@pytest.mark.parametrize("name", ["", ".", "..", "/", "1546", "15463/", "17000", f"15463/{STREAM}/none"])
def test_what_is_no_directory_of_recorded_files_is_not_recorded(name: str) -> None:
    assert outcomes([name], []) == {name: RetirementOutcome.UNKNOWN}


def test_named_files_of_other_streams_than_were_asked_for_are_not_recorded() -> None:
    plan = plan_named(FileCatalog.from_events(EVENTS), [], [PATHS[0]], ["another"])
    assert (plan.retire, plan.unknown) == ((), (PATHS[0],))


def test_of_the_missing_none_is_retired_that_is_there_or_was_before() -> None:
    account = FileCatalog.from_events([*EVENTS, retired(FILES[0]), retired(FILES[1])])
    plan = plan_missing(account, [PATHS[0], PATHS[3]])
    assert [it.path for it in plan.retire] == [BEFORE.path, PATHS[2], SALVAGED.path]
    assert (plan.still_there_count, plan.retired_before_count, plan.unknown) == (2, 1, ())


def test_before_a_time_are_files_that_end_before_it() -> None:
    account = FileCatalog.from_events(EVENTS)
    last = FILES[1].last.time
    assert [it.path for it in plan_missing(account, [], before=last).retire] == [BEFORE.path, PATHS[0]]
    assert [it.path for it in plan_missing(account, [], before=last + 1).retire] == [BEFORE.path, *PATHS[:2]]
    assert plan_missing(account, [], streams=["another"]).retire == ()


def test_a_directory_without_any_of_its_files_is_doubtful_but_not_if_they_are_retired() -> None:
    account = FileCatalog.from_events(EVENTS)
    assert "none of the 6 recorded files" in wrong_directory_reason(account, [])
    assert wrong_directory_reason(account, [PATHS[2]]) == ""
    assert wrong_directory_reason(FileCatalog.from_events([]), []) == ""
    recorded_before = [file for file in EVENTS if not isinstance(file, FileRetired)]
    assert (
        wrong_directory_reason(
            FileCatalog.from_events(
                [*EVENTS, *(retired(file) for file in recorded_before if isinstance(file, FileEvent))]
            ),
            [],
        )
        == ""
    )
    assert "none of the 1" in wrong_directory_reason(
        FileCatalog.from_events([FILES[0], FILES[1], retired(FILES[1])]), [PATHS[1]]
    )


def test_what_is_shown_says_what_was_done_and_what_not() -> None:
    account = FileCatalog.from_events([*EVENTS, retired(FILES[2])])
    text = plain(as_text(plan_named(account, PATHS[1:2], [*PATHS[:3], "what\n"]), dry_run=False))
    assert "2 files retired, 2.0 kB; 1 of them still there, to be deleted by you; 1 retired before; 1 not" in text
    assert "by ops@daq1: at home" in text
    assert "what\\n" in text
    text = plain(as_text(plan_missing(account, PATHS[1:2]), dry_run=True))
    assert "would be retired\n" in text
    assert "5 files" not in text
    assert text.endswith("4 files would be retired, 3.4 kB; 1 retired before; 1 that exist, and so not retired")


ACTS = st.lists(
    st.tuples(st.sampled_from(["record", "retire", "missing", "delete", "adopt", "again"]), st.integers(0, 3)),
    max_size=30,
)


@given(ACTS)
def test_whatever_is_done_in_whatever_order(acts: list[tuple[str, int]]) -> None:
    """Against a model: for each file whether it was recorded, is there, and is retired."""
    log: list[Event] = []
    there: set[str] = set()
    recorded: set[str] = set()
    gone_on_purpose: set[str] = set()
    for act, number in acts:
        file = FILES[number]
        account = FileCatalog.from_events(log)
        if act == "record" and file.path not in recorded:
            log.append(file)
            recorded.add(file.path)
            there.add(file.path)
        elif act == "again" and file.path in recorded:  # published at least once
            log.append(replace(file, host="another"))
        elif act == "delete":
            there.discard(file.path)
        elif act in ("retire", "missing"):
            plan = plan_named(account, there, [file.path]) if act == "retire" else plan_missing(account, there)
            if act == "missing":
                assert not there & {it.path for it in plan.retire}
                gone_on_purpose |= recorded - there
            elif file.path in recorded:
                gone_on_purpose.add(file.path)
            log += [retired(it) for it in plan.retire]
        elif act == "adopt" and file.path in gone_on_purpose:
            there.add(file.path)
            log.append(adoption_event(file, FIRST.time, "ops", "", "host"))
            gone_on_purpose.discard(file.path)
        account = FileCatalog.from_events(log)
        assert set(account.file_events()) == recorded
        assert set(account.retired) == gone_on_purpose
        assert plan_named(account, there, sorted(gone_on_purpose)).retire == (), "retiring twice changes nothing"


def test_what_is_back_has_the_bytes_that_it_had() -> None:
    file = finished(0, carry=(79,))
    back = adoption_event(file, 5, "ops@daq1", "why", "daq1")
    assert (back.path, back.sha256, back.bytes, back.frames) == (file.path, file.sha256, file.bytes, file.frames + 1)
    assert adoption_event(SALVAGED, 5, "ops@daq1", "why", "daq1").frames == SALVAGED.frames
    assert end_ms(SALVAGED) == 1_546_347_600_000
