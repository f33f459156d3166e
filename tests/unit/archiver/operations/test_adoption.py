"""Which files may be adopted: what isn't, is refused with the reason."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.core.catalog import FileCatalog
from archiver.core.events import Event
from archiver.core.paths import NameFormat, PartialName, file_path, parse_path
from archiver.operations.adoption import adoption_refusal, name_refusal, plan_named, plan_unlisted
from archiver.verify.checks import FileContents, InspectedFile
from archiver.verify.inventory import Inventory
from archiver.verify.tree_scan import ArchiveTree, FileEntry
from tests.unit.archiver.core.test_catalog import SALVAGED, STREAM, finished, retired

NOW = 1_800_000_000_000
OLD = [f"15463/{STREAM}/2019-01-01-13-00-01_000.g3", f"15463/{STREAM}/1546347602_000.g3"]
BESIDE = f"15463/another/{1546347602}_000.g3"


def archive(
    *more: Event, entries: dict[str, FileEntry] | None = None, on_their_way: set[str] | None = None
) -> Inventory:
    catalog = FileCatalog.from_events([finished(0), finished(1), SALVAGED, *more])
    there = {path: FileEntry(path, 100, NOW - 60_000) for path in [*OLD, BESIDE, finished(0).path]}
    partials = {STREAM: {str(PartialName(path, NOW, "0" * 8)): (1, 1) for path in on_their_way or ()}}
    tree = ArchiveTree(there | (entries or {}))
    return Inventory(Location(Path("/nowhere")), tree, partials, frozenset(), {}, catalog, catalog.file_events(), {})


def test_all_of_which_no_event_tells() -> None:
    choice = plan_unlisted(archive(on_their_way={OLD[1]}), NOW)
    assert [entry.path for entry in choice.to_read] == [BESIDE, OLD[0]]
    assert (choice.refused, choice.recorded) == ({}, 0)


def test_those_that_are_named_or_in_a_named_directory() -> None:
    for names in ([f"15463/{STREAM}"], [f"15463/{STREAM}/", OLD[0]], [finished(0).path, *OLD]):
        choice = plan_named(archive(), names, NOW)
        assert [entry.path for entry in choice.to_read] == sorted(OLD)
        assert (choice.refused, choice.recorded) == ({}, 1)
    assert [entry.path for entry in plan_named(archive(), ["15463"], NOW).to_read] == [BESIDE, *sorted(OLD)]


def test_what_is_not_adopted_is_said_with_the_reason() -> None:
    entries = {
        path: FileEntry(path, 100, at, kind=what)
        for path, at, what in (
            (f"15463/{STREAM}/1546347603_000.g3", NOW - 59_999, ""),
            (f"15463/{STREAM}/1546347604_000.g3", NOW, "it is a link; links aren't followed"),
            (f"15463/{STREAM}/notes.g3", 0, ""),
            (f"15463/{STREAM}/1600000000_000.g3", 0, ""),
        )
    }
    gone = f"15463/{STREAM}/1546347609_000.g3"
    choice = plan_named(archive(entries=entries, on_their_way={OLD[0]}), ["15463", gone, "what", "17000"], NOW)
    assert [entry.path for entry in choice.to_read] == [BESIDE, OLD[1]]
    said = {path.rpartition("/")[2]: why for path, why in choice.refused.items()}
    assert said == {
        "1546347603_000.g3": "it was changed less than a minute ago, and may still be written",
        "1546347604_000.g3": "it is a link; links aren't followed",
        "notes.g3": "its name must be <start>_<NNN>.g3, such as 2019-01-01-12-00-00_000.g3 or 1546344000_000.g3",
        "1600000000_000.g3": "by the time in its name it belongs in 16000/",
        "1546347609_000.g3": "it isn't there",
        "what": "it isn't where recorded files are: <5 digits>/<stream id>/<name>.g3",
        "17000": "it isn't where recorded files are: <5 digits>/<stream id>/<name>.g3",
        "2019-01-01-13-00-01_000.g3": "it is being recorded",
    }


def test_a_retired_file_that_is_back_is_adopted_if_it_is_named_and_has_its_bytes() -> None:
    file = finished(0)
    back = archive(retired(file), entries={file.path: FileEntry(file.path, 100, NOW)})
    assert [entry.path for entry in plan_named(back, [file.path], NOW).to_read] == [file.path]
    assert file.path not in [entry.path for entry in plan_unlisted(back, NOW).to_read]
    gone = plan_named(archive(retired(finished(1))), [finished(1).path], NOW)
    assert gone.refused == {finished(1).path: "it isn't there"}
    assert adoption_refusal(seen(file.path, file.sha256), file, {}) == ""
    assert "before it was retired" in adoption_refusal(seen(file.path, "f" * 64), file, {})


def seen(path: str, sha256: str, size_bytes: int = 100, broken: str | None = None) -> InspectedFile:
    return InspectedFile(STREAM, path, FileContents(size_bytes, sha256, 3, (), broken))


def test_what_has_been_read_must_be_whole_frames_and_no_copy() -> None:
    others = {"a" * 64: finished(0).path}
    assert adoption_refusal(seen(OLD[0], "b" * 64), None, others) == ""
    assert adoption_refusal(seen(OLD[0], "a" * 64), None, others) == f"it is a copy of {finished(0).path}"
    assert adoption_refusal(seen(OLD[0], "a" * 64, 0), None, others) == "", "every empty file has the same bytes"
    assert "frame 3: cut off" in adoption_refusal(seen(OLD[0], "b" * 64, broken="frame 3: cut off"), None, others)
    assert adoption_refusal(seen(OLD[0], "b" * 64, broken="frame 3: cut off"), None, others, damaged_too=True) == ""
    assert (
        adoption_refusal(InspectedFile(STREAM, OLD[0], None, "Permission denied"), None, others)
        == "Permission denied"
    )


@given(st.integers(0, 9_999_999_999), st.integers(0, 10**9), st.sampled_from(NameFormat))
def test_every_name_that_a_recorder_gives_is_taken(start: int, number: int, name_format: NameFormat) -> None:
    assert name_refusal(file_path(start, STREAM, number, name_format)) == ""


@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"[0-9]{5}/[a-z]{1,3}/[0-9-]{1,20}_[0-9]{1,4}\.g3", fullmatch=True),
        st.builds("15463/x/{}.g3".format, st.text(max_size=30)),
    )
)
def test_every_other_name_is_refused_with_a_reason(path: str) -> None:
    assert (name_refusal(path) == "") == (parse_path(path) is not None)


@pytest.mark.parametrize("name", ["9999-99-99-99-99-99_000", "------_000", "99999999999999999999999_000", "1_1"])
def test_a_name_that_says_no_time_of_the_layout_is_refused(name: str) -> None:
    assert "its name must be" in name_refusal(f"15463/x/{name}.g3") or "belongs in 00000/" in name_refusal(
        f"15463/x/{name}.g3"
    )
