"""A catalog is made if it is missing, and again if it is damaged; what is no catalog of ours is never touched."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from archiver.catalog import queries
from archiver.catalog.catalog_file import CatalogError, Unfilled, fill, in_memory, open_to_read, open_to_write
from archiver.catalog.rows import Changes
from archiver.catalog.schema import SCHEMA_VERSION
from archiver.catalog.write import apply
from archiver.core.events import encode
from tests.unit.archiver.core.test_catalog import finished


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a ?#% directory" / "catalog.sqlite"


def filled(path: Path, count: int = 50) -> None:
    """Make a catalog with files."""
    path.parent.mkdir(exist_ok=True)
    changes = Changes()
    for number in range(count):
        changes.add(number, encode(finished(number)))
    connection, unfilled = open_to_write(path, "archiver")
    assert unfilled in (None, Unfilled.MISSING)
    with closing(connection), closing(in_memory("archiver")) as made:
        if unfilled:
            fill(connection, made)
        apply(connection, changes)


def count_of(path: Path) -> int:
    with closing(open_to_read(path, "archiver")) as connection:
        return queries.counts(connection)[0]


def test_it_is_made_once_and_kept(path: Path) -> None:
    filled(path)
    filled(path, 60)
    assert count_of(path) == 60


def test_an_empty_file_of_a_program_that_was_killed_becomes_one(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    filled(path)
    assert count_of(path) == 50


def another_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (value)")


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (another_database, "another program's"),
        (lambda path: path.write_text("notes of the night\n" * 500), "no SQLite file"),
        (lambda path: path.write_text("x\n"), "no SQLite file"),
    ],
)
def test_what_is_no_catalog_of_ours_is_never_touched(path: Path, make: Callable[[Path], object], why: str) -> None:
    path.parent.mkdir()
    make(path)
    before = path.read_bytes()
    for act in (lambda: open_to_write(path, "archiver"), lambda: open_to_read(path)):
        with pytest.raises(CatalogError, match=why):
            act()
    assert path.read_bytes() == before
    assert [it.name for it in path.parent.iterdir()] == [path.name]


def test_of_another_group_it_is_refused(path: Path) -> None:
    filled(path)
    for act in (lambda: open_to_write(path, "other"), lambda: open_to_read(path, "other")):
        with pytest.raises(CatalogError, match=r"of the group archiver, not of other: give the right --group"):
            act()
    assert count_of(path) == 50


def test_of_another_version_it_is_to_be_filled_again(path: Path) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE loss")
        connection.execute("CREATE TABLE of_later (value)")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(CatalogError, match="another version"):
        open_to_read(path)
    connection, unfilled = open_to_write(path, "archiver")
    with closing(connection), closing(in_memory("archiver")) as made:
        assert unfilled is Unfilled.OTHER_VERSION
        fill(connection, made)
    assert count_of(path) == 0


@pytest.mark.parametrize("damage", ["the schema", "the head's page count", "the first row"])
def test_a_damaged_one_is_made_again(path: Path, damage: str) -> None:
    filled(path)
    content = bytearray(path.read_bytes())
    if damage == "the schema":
        content[100:2000] = b"\xff" * 1900
    elif damage == "the head's page count":
        content[16:18] = b"\x02\x00"
        del content[600:]
    else:
        content[4096:] = b"\xff" * len(content[4096:])
    path.write_bytes(content)
    connection, unfilled = open_to_write(path, "archiver")
    connection.close()
    assert unfilled is Unfilled.DAMAGED
    filled(path)
    assert count_of(path) == 50


def test_what_a_killed_writer_left_of_a_transaction_is_undone(path: Path) -> None:
    """Its journal is there, as after `kill -9`: the next writer rolls it back."""
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that it writes before its end
        connection.execute("BEGIN")
        connection.execute("UPDATE file SET bytes = 0")
        copies = {it.name: it.read_bytes() for it in path.parent.iterdir()}
    assert set(copies) == {path.name, f"{path.name}-journal"}
    for name, content in copies.items():
        (path.parent / name).write_bytes(content)
    connection, unfilled = open_to_write(path, "archiver")
    with closing(connection):
        assert unfilled is None
        assert connection.execute("SELECT sum(bytes) FROM file").fetchone() == (50_000,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_it_is_read_without_the_right_to_write(path: Path) -> None:
    filled(path)
    with closing(open_to_read(path)) as connection, pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM file")
    missing = path.with_name("missing.sqlite")
    with pytest.raises(CatalogError, match="there is no catalog"):
        open_to_read(missing)
    assert not missing.exists()


def test_a_copy_in_memory_has_the_same(path: Path) -> None:
    filled(path)
    with closing(open_to_read(path)) as found, closing(in_memory("archiver", found)) as copy:
        assert queries.counts(copy) == (50, 0)
        copy.execute("DELETE FROM file")
    assert count_of(path) == 50
