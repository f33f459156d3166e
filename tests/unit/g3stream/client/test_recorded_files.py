"""Files from events, without Kafka."""

import pytest

from archiver.core.events import Event, FileAdopted, FileFinished, FileSalvaged, encode
from g3stream.client.recorded_files import File, files_of
from tests.unit.archiver.core.test_catalog import SALVAGED, adopted, finished, lost, retired
from tests.unit.archiver.core.test_events import EVENTS


def paths(*events: Event) -> list[str]:
    return [file.path for file in files_of(map(encode, events), events[0].group)]


def test_a_file_is_listed_with_what_its_event_says() -> None:
    event = finished(0)
    times = event.first.time, event.last.time
    session = event.checkpoint.state.session
    expected = File(event.path, event.stream, event.bytes, event.sha256, event.frames, *times, session)
    assert files_of([encode(event), encode(event)], event.group) == [expected]
    assert files_of([encode(event)], "another") == []


def test_a_retired_file_is_not_listed_until_it_is_adopted_again() -> None:
    assert paths(finished(0), finished(1), retired(finished(0))) == [finished(1).path]
    assert paths(finished(0), retired(finished(0)), adopted(finished(0).path)) == [finished(0).path]


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_about_a_file_is_understood_and_all_else_is_skipped(event: Event) -> None:
    others = [b"", b"no json", b"[]", b'{"event": "later", "group": "archiver"}', encode(lost(7, 0))]
    found = files_of([*others, encode(event)], event.group)
    about_a_file = isinstance(event, FileFinished | FileSalvaged | FileAdopted)
    assert [file.path for file in found] == ([event.path] if about_a_file else [])  # type: ignore[union-attr]


def test_a_salvaged_file_has_the_time_of_its_name() -> None:
    [file] = files_of([encode(SALVAGED)], SALVAGED.group)
    assert file.begin_ms == file.end_ms
    assert file.begin_ms is not None
