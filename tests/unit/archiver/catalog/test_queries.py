"""What the page and the commands ask the catalog, and what an operator asks it with --where."""

import sqlite3

import msgspec
import pytest
from msgspec.structs import replace

from archiver.catalog import expression, queries
from archiver.catalog.catalog_file import in_memory
from archiver.catalog.expression import ExpressionError, paths_where
from archiver.catalog.recorded import Search
from archiver.catalog.rows import Changes
from archiver.catalog.write import apply
from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason
from bench.catalog import event as file_of_many
from tests.unit.archiver.catalog.test_catalog_rows import catalog_of
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, STREAM, adopted, finished, lost, retired

DAY_MS = 86_400_000


def in_session(number: int, session: int | None, stream: str = STREAM, **changed: object) -> FileFinished:
    """A file with frames of a session."""
    file = finished(number, stream=stream, id=stream, **changed)
    state = replace(file.checkpoint.state, stream=stream, session=session)
    checkpoint = replace(file.checkpoint, state=state)
    return replace(file, checkpoint=checkpoint, path=file.path.replace(STREAM, stream))


FILES = [
    in_session(0, 1_546_344_000),
    in_session(1, 1_546_344_000, why=CloseReason.END, missing=3),
    in_session(0, 1_546_344_000, "other", why=CloseReason.END),
    in_session(2, 1_546_344_020, why=CloseReason.LOST),
]
OLD = adopted(f"15462/{STREAM}/1546200000_000.g3")
LOSS = lost(20, FILES[1].first.time + 5)
ALONE = lost(99, FIRST.time + DAY_MS, "later", records=None, since=None)


@pytest.fixture(scope="module")
def catalog() -> sqlite3.Connection:
    return catalog_of([*FILES, SALVAGED, OLD, retired(OLD), LOSS, ALONE])


def test_a_night_has_whole_acquisitions_other_files_and_losses(catalog: sqlite3.Connection) -> None:
    night = queries.recorded(catalog, FIRST.time, FIRST.time + DAY_MS - 1)
    assert sorted((it.stream, it.number, len(it.files), it.over) for it in night.acquisitions) == [
        (STREAM, 1, 2, True), (STREAM, 3, 1, True), ("other", 1, 1, True),
    ]  # fmt: skip
    assert [loss.what for it in night.acquisitions for loss in it.losses] == [LOSS.what]
    assert [(it.path, it.kind) for it in night.others] == [(SALVAGED.path, "salvaged")]
    assert night.losses == ()
    assert [loss.what for loss in queries.recorded(catalog, FIRST.time + DAY_MS).losses] == ["later"]
    assert queries.recorded(catalog, 0, 1) == queries.recorded(catalog, 2**60)
    assert {it.stream for it in queries.recorded(catalog, streams=["other"]).acquisitions} == {"other"}


def test_one_file_acquisition_or_session(catalog: sqlite3.Connection) -> None:
    file = queries.file_at(catalog, FILES[1].path)
    assert file
    assert (file.acquisition, file.number, file.session, file.missing) == (1, 2, 1_546_344_000, 3)
    assert [loss.file for loss in file.losses] == [file.path]
    old = queries.file_at(catalog, OLD.path)
    assert old
    assert old.retired
    assert (old.kind, old.retired.who, old.start_s) == ("adopted", "ops@daq1", 1_546_200_000)
    assert queries.file_at(catalog, "' OR 1 --") is None
    for number in (1, 2):
        acquisition = queries.acquisition(catalog, STREAM, number)
        assert acquisition
        assert (acquisition.number, acquisition.closed) == (1, "end")
    assert queries.acquisition(catalog, STREAM, 99) is None
    assert [it.path for it in queries.session_files(catalog, 1_546_344_000)] == [
        FILES[0].path, FILES[1].path, FILES[2].path,
    ]  # fmt: skip


def test_sessions_the_newest_first_in_pages(catalog: sqlite3.Connection) -> None:
    newest, oldest = queries.sessions(catalog)
    assert (newest.session, newest.files, newest.streams) == (1_546_344_020, 1, (STREAM,))
    assert (oldest.session, oldest.files, oldest.streams) == (1_546_344_000, 3, (STREAM, "other"))
    assert queries.sessions(catalog, limit=1) == [newest]
    assert queries.sessions(catalog, before=newest.session) == [oldest]


def test_a_search_has_pages(catalog: sqlite3.Connection) -> None:
    everything = queries.search(catalog, Search())
    assert (everything.total, len(everything.files)) == (6, 6)
    pages = [queries.search(catalog, Search(), page, 4) for page in (1, 2, 3)]
    assert [it for page in pages for it in page.files] == list(everything.files)
    assert [page.total for page in pages] == [6, 6, 6]
    begins = [file.begin_ms for file in everything.files]
    assert begins == sorted(begins, reverse=True)
    bad = queries.search(catalog, Search(missing=True, streams=[STREAM], session=1_546_344_000))
    assert [file.path for file in bad.files] == [FILES[1].path]
    assert queries.search(catalog, Search(since_ms=FIRST.time + DAY_MS)).total == 0


def test_the_last_loss_of_each_stream(catalog: sqlite3.Connection) -> None:
    assert {stream: loss.what for stream, loss in queries.last_losses(catalog).items()} == {STREAM: "later"}
    assert [loss.what for loss in queries.losses(catalog, FIRST.time, FIRST.time + DAY_MS - 1)] == [LOSS.what]
    assert queries.streams(catalog) == [STREAM, "other"]
    assert queries.counts(catalog) == (6, 2)


def test_views_for_people_have_times_they_can_read(catalog: sqlite3.Connection) -> None:
    (night,) = catalog.execute("SELECT * FROM nights WHERE files > 1").fetchall()
    assert night == ("2019-01-01", 5, 4700, 2, 3, 1)
    assert catalog.execute("SELECT night, files, losses FROM nights WHERE losses AND NOT files").fetchall() == [
        ("2019-01-02", 0, 1)
    ]
    acquisition = catalog.execute(
        "SELECT start, first_frame, last_frame, files, missing, closed FROM acquisitions"
        f" WHERE stream = '{STREAM}' AND acquisition = 1"
    ).fetchone()
    assert acquisition == (
        "2019-01-01T12:00:00.000Z", "2019-01-01T12:00:00.000Z", "2019-01-01T12:00:19.000Z", 2, 3, "end",
    )  # fmt: skip
    observations = catalog.execute("SELECT observation, files FROM observations ORDER BY 1").fetchall()
    assert observations == [
        (f"obs_{STREAM}_1546344000", 2), (f"obs_{STREAM}_1546344020", 1), ("obs_other_1546344000", 1),
    ]  # fmt: skip
    assert catalog.execute("SELECT path, retired_by FROM files WHERE retired").fetchall() == [(OLD.path, "ops@daq1")]
    assert catalog.execute("SELECT path FROM retirements").fetchall() == [(OLD.path,)]
    assert catalog.execute("SELECT until, records FROM losses ORDER BY 1").fetchall() == [
        ("2019-01-01T12:00:10.005Z", 3), ("2019-01-02T12:00:00.000Z", None),
    ]  # fmt: skip
    assert catalog.execute(f"SELECT losses, lost_records FROM files WHERE path = '{FILES[1].path}'").fetchone() == (
        1,
        3,
    )


def test_numbers_that_are_too_large_to_add_break_no_view() -> None:
    most = 2**63 - 1
    catalog = catalog_of([replace(it, frames=most, bytes=most, missing=most) for it in FILES])
    for view in ("files", "acquisitions", "sessions", "observations", "nights"):
        assert catalog.execute(f"SELECT * FROM {view}").fetchall()
    assert queries.sessions(catalog)


@pytest.mark.slow
def test_of_100000_files_each_is_in_its_acquisition_session_and_night() -> None:
    """python -m bench.catalog measures how fast that is."""
    catalog, count = in_memory("archiver"), 100_000
    for start in range(0, count, 10_000):
        changes = Changes()
        for index in range(start, start + 10_000):
            changes.add(index, msgspec.json.encode(file_of_many(index)))
        apply(catalog, changes)
    assert queries.counts(catalog) == (count, 0)
    assert catalog.execute("SELECT count(*) FROM acquisitions").fetchone() == (20 * 834,)
    middle = file_of_many(count // 2)
    assert len(queries.session_files(catalog, middle.start)) == 20 * 6
    night = queries.recorded(catalog, middle.start * 1000, middle.start * 1000 + DAY_MS - 1)
    assert len(night.acquisitions) == 20 * 24
    assert all(len(it.files) == 6 for it in night.acquisitions)
    assert len(paths_where(catalog, "missing > 0")) == 100


# -- --where --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("missing > 0", [FILES[1]]),
        ("stream = 'other' OR closed = 'lost'", [FILES[2], FILES[3]]),
        ("lost_records > 2 -- or more", [FILES[1]]),
        ("first_frame >= '2019-01-01T12:00:20'", [FILES[3]]),
        ("night = '2019-01-01' AND session = 1546344020", [FILES[3]]),
        ("retired IS NOT NULL", [OLD]),
        ("path LIKE '15463/%' AND kind = 'salvaged'", [SALVAGED]),
        ("false", []),
    ],
)
def test_an_expression_finds_files(catalog: sqlite3.Connection, text: str, files: list[FileFinished]) -> None:
    assert sorted(paths_where(catalog, text)) == sorted(file.path for file in files)


def test_an_expression_of_one_session(catalog: sqlite3.Connection) -> None:
    assert paths_where(catalog, "true", 1_546_344_020) == [FILES[3].path]


@pytest.mark.parametrize(
    "hostile",
    [
        "",
        "misssing > 0",
        "1); DELETE FROM file; --",
        "1) UNION SELECT load_extension('/tmp/x.so') --",
        "load_extension('/tmp/x.so')",
        "1; ATTACH '/tmp/other.sqlite' AS other",
        "writefile('/tmp/x', 'y')",
        "(SELECT * FROM pragma_writable_schema)",
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)",
        "length(randomblob(1000000000)) > 0",
        "replace(hex(zeroblob(900000)), '0', hex(zeroblob(900000)))",
        f"'{'a' * 1000}' GLOB '{'*a' * 500}b'",
        "NOT " * 2000 + "1",
        "1 = 1\0 garbage",
        "\ud800",
        "'" + "x" * 2_000_000 + "'",
        "?2",
    ],
)
def test_a_hostile_expression_harms_nothing(catalog: sqlite3.Connection, hostile: str) -> None:
    with pytest.raises(ExpressionError, match="the columns are path, kind, stream") as refused:
        paths_where(catalog, hostile)
    assert len(str(refused.value)) < 1000
    assert queries.counts(catalog) == (6, 2)


def test_an_expression_that_takes_too_long_is_ended(
    catalog: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expression, "_MAX_S", 0.0)
    forever = "(SELECT count(*) FROM file a, file b, file c, file d, file e, file f, file g, file h) > 0"
    with pytest.raises(ExpressionError, match="it takes more than 0 s"):
        paths_where(catalog, forever)
    # The connection is as it was: it may write, and take its time.
    catalog.execute("UPDATE meta SET next_offset = next_offset")
