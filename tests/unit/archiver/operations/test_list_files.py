"""Which files are one acquisition, and with which a loss is shown: from events alone."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.commands.files import make_parser
from archiver.core.catalog import FileCatalog
from archiver.core.events import Event
from archiver.core.segmentation import CloseReason
from archiver.operations.list_files import ListedAcquisition, ListedEvent, as_json, as_table, entries
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, STREAM, finished, lost


def shown(*events: Event, since: int | None = None, until: int | None = None) -> list[object]:
    """What is listed, in short: the numbers of an acquisition's files, or the kind of what is alone."""
    return [
        [file.event.number for file in entry.files]
        if isinstance(entry, ListedAcquisition)
        else type(entry.event).__name__
        for entry in entries(FileCatalog.from_events(events), since, until)
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
    assert [
        entry.ended for entry in entries(FileCatalog.from_events(files)) if isinstance(entry, ListedAcquisition)
    ] == [True, True]


def test_an_acquisition_whose_last_file_was_closed_by_time_goes_on() -> None:
    (entry,) = entries(FileCatalog.from_events([finished(0), finished(1)]))
    assert isinstance(entry, ListedAcquisition)
    assert not entry.ended
    assert "continues" in as_table([entry])


def test_a_file_closed_by_a_disconnection_is_not_shown_as_lost() -> None:
    (entry,) = entries(FileCatalog.from_events([finished(0, why=CloseReason.LOST)]))
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
    found = entries(FileCatalog.from_events([*other, finished(2, why=CloseReason.END)]))
    assert [entry.time_ms - FIRST.time for entry in found] == [-60_000, 20_000, 60_000]


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
    (entry,) = entries(FileCatalog.from_events([*files, middle, last]))
    assert isinstance(entry, ListedAcquisition)
    assert [file.losses for file in entry.files] == [(), (middle,), (last,)]


def test_a_loss_at_the_cut_between_two_files_is_shown_once() -> None:
    loss = lost(15, finished(0).closing.time)
    (entry,) = entries(FileCatalog.from_events([finished(0), finished(1), loss]))
    assert isinstance(entry, ListedAcquisition)
    assert [file.losses for file in entry.files] == [(loss,), ()]


def test_a_loss_between_acquisitions_and_what_was_salvaged_have_lines_of_their_own() -> None:
    loss = lost(99, FIRST.time + 1_000_000)
    found = shown(finished(0, why=CloseReason.END), loss, SALVAGED)
    assert found == [[1], "RecordsLost", "FileSalvaged"]
    table = as_table(entries(FileCatalog.from_events([finished(0, why=CloseReason.END), loss, SALVAGED])))
    assert re.search(f"LOST +{loss.what}\n", table)
    assert SALVAGED.path in table
    assert SALVAGED.what in table
    assert table.splitlines()[-1] == (
        "1 acquisition, 1 file, 1.7 kB, 17 frames, 1 file SALVAGED, 0 missing, LOST: 3 records, 1 time"
    )


def test_how_many_are_lost_is_said_as_far_as_it_is_known() -> None:
    file = finished(0, why=CloseReason.END)
    unknown = lost(9, file.last.time, "a tail may be lost", records=None)
    both = as_table(entries(FileCatalog.from_events([file, lost(8, file.last.time), unknown])))
    assert both.splitlines()[-1].endswith("LOST: 3+? records, 2 times")
    (entry,) = entries(FileCatalog.from_events([file, unknown]))
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
    found = entries(catalog)
    files = [file for entry in found if isinstance(entry, ListedAcquisition) for file in entry.files]
    assert len(files) == sum(len(theirs) for theirs in catalog.files.values())
    losses = [loss for file in files for loss in file.losses]
    losses += [entry.event for entry in found if isinstance(entry, ListedEvent) and entry.event in catalog.losses]
    assert sorted(loss.key for loss in losses) == sorted(loss.key for loss in catalog.losses)
    for entry in found:
        if isinstance(entry, ListedAcquisition):
            events = [file.event for file in entry.files]
            assert len({(event.stream, event.start, event.id) for event in events}) == 1
            assert all(event.why is CloseReason.TIME for event in events[:-1])
    assert [entry.time_ms for entry in found] == sorted(entry.time_ms for entry in found)
    table = as_table(found)
    for loss in catalog.losses:
        assert loss.what in table
    for entry in found:
        json.dumps(as_json(entry))


def test_json_has_the_names_that_help_promises() -> None:
    said = make_parser().format_help()
    (entry,) = entries(FileCatalog.from_events([finished(0, why=CloseReason.END), lost(9, FIRST.time + 1)]))
    document = as_json(entry)
    (file,) = document["files"]
    for name in (*document, *file, *file["losses"][0]):
        assert name in said
    assert document["start"] == "2019-01-01T12:00:00.000Z"
    assert file["first_frame"] == "2019-01-01T12:00:00.000Z"
    assert file["path"] == f"15463/{STREAM}/2019-01-01-12-00-00_000.g3"


def test_what_was_told_can_not_take_over_the_terminal() -> None:
    shown = as_table(entries(FileCatalog.from_events([lost(7, FIRST.time, what="\x1b[2J\nall is well")])))
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3
