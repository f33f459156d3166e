"""The catalog says what core/catalog.py's FileCatalog says, however events come, and however they are divided."""

import sqlite3

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.catalog import queries
from archiver.catalog.catalog_file import in_memory
from archiver.catalog.rows import Changes
from archiver.catalog.write import apply
from archiver.core.catalog import FileCatalog
from archiver.core.events import Event, FileFinished
from archiver.core.segmentation import CloseReason
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, adopted, finished, lost, retired


def catalog_of(events: list[Event], parts: int = 1) -> sqlite3.Connection:
    """The catalog of events, written in so many parts."""
    connection = in_memory("archiver")
    size = max(1, -(-len(events) // parts))
    for start in range(0, max(1, len(events)), size):
        changes = Changes()
        for offset, event in enumerate(events[start : start + size], start):
            changes.add(offset, msgspec.json.encode(event))
        apply(connection, changes)
    return connection


def in_stream(event: FileFinished, stream: str) -> FileFinished:
    """The same file of another stream: its path is of that, too."""
    state = replace(event.checkpoint.state, stream=stream, session=event.number // 3 or None)
    return replace(
        event,
        stream=stream,
        id=stream,
        path=event.path.replace("crate1slot2", stream),
        checkpoint=replace(event.checkpoint, state=state),
    )


streams = st.sampled_from(["a", "b"])
digests = st.sampled_from(["0" * 64, "1" * 64])
files = st.builds(
    lambda number, stream, why, start, missing, sha256, moved: in_stream(
        replace(
            finished(number, why=why, start=start, missing=missing, sha256=sha256),
            first=replace(FIRST, time=FIRST.time + 10_000 * number + moved),
        ),
        stream,
    ),
    st.integers(0, 8), streams, st.sampled_from(CloseReason), st.integers(1_546_344_000, 1_546_344_001),
    st.integers(0, 2), digests, st.sampled_from([0, 0, 0, -15_000]),
)  # fmt: skip
paths = st.builds(lambda number, stream: in_stream(finished(number), stream).path, st.integers(0, 8), streams)
of_path = paths.map(lambda path: (path, path.split("/")[1]))
events = st.lists(
    files
    | st.builds(
        lambda offset, at, stream, records: lost(offset, FIRST.time + at, stream=stream, records=records),
        st.integers(0, 3), st.integers(-20_000, 100_000), streams, st.none() | st.integers(0, 9),
    )
    | st.builds(lambda it, sha256: replace(SALVAGED, path=it[0], stream=it[1], sha256=sha256), of_path, digests)
    | st.builds(lambda it, sha256: adopted(it[0], stream=it[1], sha256=sha256), of_path, digests)
    | st.builds(
        lambda it, sha256: retired(replace(SALVAGED, path=it[0], stream=it[1], sha256=sha256)), of_path, digests
    ),
    max_size=40,
)  # fmt: skip


@settings(deadline=None)
@given(events)
def test_it_has_the_files_losses_and_retirements_of_the_events(published: list[Event]) -> None:
    connection, expected = catalog_of(published), FileCatalog.from_events(published)
    found = {path: queries.file_at(connection, path) for path in expected.file_events()}
    for path, event in expected.file_events().items():
        file = found[path]
        assert file
        assert (file.sha256, file.bytes, file.frames, file.host) == (
            event.sha256, event.bytes, event.frames, event.host,
        )  # fmt: skip
        assert (
            file.kind
            == {"file": "finished", "salvaged": "salvaged", "file_adopted": "adopted"}[
                str(type(event).__struct_config__.tag)
            ]
        )
    assert {path for path, file in found.items() if file and file.retired} == set(expected.retired)
    (count,) = connection.execute("SELECT count(*) FROM files").fetchone()
    assert count == len(found)
    losses = [(it.stream, it.offset, it.until_ms, it.records, it.what) for it in queries.losses(connection)]
    assert sorted(losses, key=str) == sorted(
        ((it.stream, it.offset, it.until, it.records, it.what) for it in expected.losses), key=str
    )
    recorded = queries.recorded(connection)
    numbers = {stream: sorted(file.number for file in theirs) for stream, theirs in expected.files.items()}
    found_numbers: dict[str, list[int]] = {}
    for acquisition in sorted(recorded.acquisitions, key=lambda it: it.files[0].number or 0):
        found_numbers.setdefault(acquisition.stream, []).extend(file.number or 0 for file in acquisition.files)
        assert all(file.closed == "time" for file in acquisition.files[:-1])
        assert len({(file.start_s, file.id) for file in acquisition.files}) == 1
    assert found_numbers == numbers


@settings(deadline=None)
@given(events, st.integers(1, 40))
def test_it_is_the_same_however_the_events_are_divided(published: list[Event], parts: int) -> None:
    whole, divided = catalog_of(published), catalog_of(published, parts)
    for table in ("file", "loss", "retirement", "unreadable"):
        rows = [connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for connection in (whole, divided)]
        assert rows[0] == rows[1]
