"""Which files are one acquisition, and with which a loss is shown: from events alone."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.__main__ import make_command_parser
from archiver.catalog import queries
from archiver.catalog.recorded import Acquisition, Loss
from archiver.commands.files import make_parser
from archiver.console.arguments import resolve_times
from archiver.console.tables import plain
from archiver.core.catalog import FileCatalog
from archiver.core.events import Event, FileFinished, RecordsLost
from archiver.core.segmentation import CloseReason
from archiver.operations import listing
from archiver.operations.listing import Listing, begin_ms, placed
from archiver.operations.listing import as_table as parts_of_table
from tests.unit.archiver.catalog.test_catalog_rows import catalog_of
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, STREAM, finished, lost, retired


def as_table(found: list[Listing]) -> str:
    """The table as it is piped."""
    return plain(parts_of_table(found))


def as_json(entry: Listing) -> dict[str, Any]:
    """The JSON object of an entry."""
    return listing.as_json(entry, "archiver")


def entries(published: Iterable[Event], since: int | None = None, until: int | None = None) -> list[Listing]:
    """What is listed."""
    return listing.entries(queries.recorded(catalog_of([*published]), since, until))


def of_event(loss: RecordsLost, file: str | None = None) -> Loss:
    """The loss that an event reports."""
    return Loss(
        loss.stream, loss.records, loss.times, loss.what, loss.cause, loss.offset, loss.since, loss.until, loss.host,
        file,
    )  # fmt: skip


def shown(*events: Event, since: int | None = None, until: int | None = None) -> list[object]:
    """What is listed, in short: the numbers of an acquisition's files, or the kind of what is alone."""
    return [
        [file.number for file in entry.files]
        if isinstance(entry, Acquisition)
        else ("loss" if isinstance(entry, Loss) else entry.kind)
        for entry in entries(events, since, until)
    ]


def test_files_closed_by_time_go_on_to_the_next_until_another_why() -> None:
    files = [
        finished(0),
        finished(1),
        finished(2, why=CloseReason.END),
        finished(3),
        finished(4, why=CloseReason.GAP),
    ]
    assert shown(*files) == [[1, 2, 3], [4, 5]]
    assert [entry.over for entry in entries(files) if isinstance(entry, Acquisition)] == [True, True]


def test_an_acquisition_whose_last_file_was_closed_by_time_goes_on() -> None:
    (entry,) = entries([finished(0), finished(1)])
    assert isinstance(entry, Acquisition)
    assert not entry.over
    assert "continues" in as_table([entry])


def test_a_file_closed_by_a_disconnection_is_not_shown_as_lost() -> None:
    (entry,) = entries([finished(0, why=CloseReason.LOST)])
    table = as_table([entry])
    assert "disconnected" in table
    assert "nothing lost" in table
    assert as_json(entry)["why"] == "lost"


def test_two_acquisitions_in_the_same_second_are_two() -> None:
    """They have the same start and id, and go on with the suffix."""
    assert shown(finished(0, why=CloseReason.END), finished(1, why=CloseReason.END)) == [[1], [2]]


def test_another_start_is_another_acquisition_even_without_an_end() -> None:
    """As when its last file was salvaged."""
    assert shown(finished(0), finished(1, start=1_546_344_500, why=CloseReason.END)) == [[1], [2]]


def test_streams_are_mixed_by_time_the_latest_last() -> None:
    other = [
        replace(finished(n, why=CloseReason.END), stream="other", first=replace(FIRST, time=FIRST.time + at))
        for n, at in enumerate((-60_000, 60_000))
    ]
    found = entries([*other, finished(2, why=CloseReason.END)])
    assert [begin_ms(entry) - FIRST.time for entry in found] == [-60_000, 20_000, 60_000]


def test_since_and_until_give_whole_acquisitions_that_overlap() -> None:
    files = [finished(0), finished(1, why=CloseReason.END), finished(5, why=CloseReason.END)]
    at = [file.first.time for file in files]
    assert shown(*files, since=at[1] + 1) == [[1, 2], [6]]
    assert shown(*files, since=at[1] + 9_001) == [[6]]
    assert shown(*files, until=at[2]) == [[1, 2], [6]]
    assert shown(*files, until=at[2] - 1) == [[1, 2]]
    assert shown(*files, until=at[0] - 1) == []


def test_a_loss_is_shown_with_the_file_in_which_it_was_noticed() -> None:
    files = [finished(0), finished(1), finished(2, why=CloseReason.LOST)]
    middle, last = lost(20, files[1].first.time + 5), lost(36, files[2].closing.time)
    (entry,) = entries([*files, middle, last])
    assert isinstance(entry, Acquisition)
    assert [file.losses for file in entry.files] == [
        (),
        (of_event(middle, files[1].path),),
        (of_event(last, files[2].path),),
    ]


def test_a_loss_at_the_cut_between_two_files_is_shown_once() -> None:
    loss = lost(15, finished(0).closing.time)
    (entry,) = entries([finished(0), finished(1), loss])
    assert isinstance(entry, Acquisition)
    assert [file.losses for file in entry.files] == [(of_event(loss, finished(0).path),), ()]


def test_a_loss_between_acquisitions_and_what_was_salvaged_have_lines_of_their_own() -> None:
    loss = lost(99, FIRST.time + 1_000_000)
    found = shown(finished(0, why=CloseReason.END), loss, SALVAGED)
    assert found == [[1], "loss", "salvaged"]
    table = as_table(entries([finished(0, why=CloseReason.END), loss, SALVAGED]))
    assert re.search(f"LOST +{loss.what}\n", table)
    assert SALVAGED.path in table
    assert SALVAGED.what in table
    assert table.splitlines()[-1] == (
        "1 acquisition, 1 file, 1.7 kB, 17 frames, 1 file SALVAGED, 0 missing, LOST: 3 records, 1 time"
    )


def test_how_many_are_lost_is_said_as_far_as_it_is_known() -> None:
    file = finished(0, why=CloseReason.END)
    unknown = lost(9, file.last.time, "a tail may be lost", records=None)
    both = as_table(entries([file, lost(8, file.last.time), unknown]))
    assert both.splitlines()[-1].endswith("LOST: 3+? records, 2 times")
    (entry,) = entries([file, unknown])
    assert as_json(entry)["lost_records"] is None


events = st.lists(
    st.builds(
        lambda n, why, start, stream: finished(n, why=why, start=start, stream=stream),
        st.integers(0, 20), st.sampled_from(CloseReason),
        st.integers(1_546_344_000, 1_546_344_002), st.sampled_from("ab"),
    )
    | st.builds(
        lambda offset, at, stream, records: lost(offset, FIRST.time + at, stream=stream, records=records),
        st.integers(0, 99), st.integers(-50_000, 300_000), st.sampled_from("abc"), st.none() | st.integers(0, 9),
    )
    | st.just(SALVAGED)
)  # fmt: skip


@given(events)
def test_every_event_is_listed_once(published: list[Event]) -> None:
    catalog = FileCatalog.from_events(published)
    found = entries(published)
    files = [file for entry in found if isinstance(entry, Acquisition) for file in entry.files]
    assert len(files) == sum(len(theirs) for theirs in catalog.files.values())
    losses = [loss for file in files for loss in file.losses]
    losses += [entry for entry in found if isinstance(entry, Loss)]
    listed = sorted((it.stream, it.offset, it.until_ms, it.what) for it in losses)
    assert listed == sorted((it.stream, it.offset, it.until, it.what) for it in catalog.losses)
    for entry in found:
        if isinstance(entry, Acquisition):
            assert len({(file.stream, file.start_s, file.id) for file in entry.files}) == 1
            assert all(file.closed == "time" for file in entry.files[:-1])
    assert [begin_ms(entry) for entry in found] == sorted(begin_ms(entry) for entry in found)
    table = as_table(found)
    for loss in catalog.losses:
        assert loss.what in table
    for entry in found:
        json.dumps(as_json(entry))


def test_json_has_the_names_that_help_promises() -> None:
    said = make_parser().format_help()
    (entry,) = entries([finished(0, why=CloseReason.END), lost(9, FIRST.time + 1)])
    document = as_json(entry)
    (file,) = document["files"]
    for name in (*document, *file, *file["losses"][0]):
        assert name in said
    assert document["start"] == "2019-01-01T12:00:00.000Z"
    assert file["first_frame"] == "2019-01-01T12:00:00.000Z"
    assert file["path"] == f"15463/{STREAM}/2019-01-01-12-00-00_000.g3"


def test_what_was_told_can_not_take_over_the_terminal() -> None:
    shown = as_table(entries([lost(7, FIRST.time, what="\x1b[2J\nall is well")]))
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3


def test_with_a_data_directory_paths_are_absolute() -> None:
    file = finished(0, why=CloseReason.END)
    found = placed(entries([file, retired(file), SALVAGED]), Path("/data"))
    assert [it["path"] for it in as_json(found[0])["files"]] == [f"/data/{file.path}"]
    assert as_json(found[1])["path"] == f"/data/{SALVAGED.path}"
    assert [it.path for it in listing.retired_of(found)] == [f"/data/{file.path}"]
    assert f"/data/{file.path} (retired)" in as_table(found)


def options(*arguments: str) -> Any:
    """The options of a command line, checked."""
    found = make_command_parser("files").parse_args([*arguments])
    resolve_times(found)
    found.check(found)
    return found


def test_a_night_is_from_noon_to_noon() -> None:
    found = options("--night", "2019-01-01")
    assert (found.since, found.until) == (FIRST.time, FIRST.time + 86_400_000 - 1)
    files = [in_the_night_before, in_the_night, in_the_next_night] = [
        replace(finished(n, why=CloseReason.END), first=replace(FIRST, time=at), last=replace(FIRST, time=at))
        for n, at in enumerate((FIRST.time - 1, FIRST.time, FIRST.time + 86_400_000))
    ]
    assert [file.number for file in files] == [1, 2, 3]
    assert shown(*files, since=found.since, until=found.until) == [[in_the_night.number]]
    assert in_the_night_before.number < in_the_next_night.number


@pytest.mark.parametrize(
    "arguments",
    [
        ("--night", "2019-01-01", "--since", "2019-01-01"),
        ("--json", "--format", "csv"),
        ("--night", "tonight"),
        ("--session", "x"),
        ("--session", "9" * 19),
    ],
)
def test_flags_that_contradict_each_other_are_wrong_usage(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit, match="2"):
        options(*arguments)


def test_all_columns_of_the_view_are_in_help() -> None:
    said = make_parser().format_help()
    columns, _ = queries.view_rows(catalog_of([]), [])
    assert [name for name in columns if not re.search(rf"\b{name}\b", said)] == []


def in_session(number: int, session: int | None, **changed: object) -> FileFinished:
    """A file with frames of a session."""
    file = finished(number, **changed)
    state = replace(file.checkpoint.state, session=session)
    return replace(file, checkpoint=replace(file.checkpoint, state=state))
