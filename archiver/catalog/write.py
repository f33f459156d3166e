"""Writes changes into a catalog, within a transaction, and keeps what is derived from several rows right.

Derived are the acquisition of a file, from the files before it, and the file of a loss: the first one during which
it was noticed, from its first frame to the record that closed it.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from itertools import groupby

from archiver.catalog.rows import (
    FINISHED,
    Changes,
    FileRow,
    LossRow,
    Numbered,
    RetirementRow,
    acquisitions,
)


def _upsert(table: str, columns: Iterable[str], key: Iterable[str]) -> str:
    """The SQL that inserts a row, or replaces its values in its place."""
    names = list(columns)
    keys = list(key)
    values = ", ".join(f"{name} = excluded.{name}" for name in names if name not in keys)
    marks = ", ".join("?" * len(names))
    return (
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks}) "
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {values}"
    )


_FILE = _upsert("file", (*FileRow._fields, "acquisition"), ("path", "stream", "kind"))
_LOSS = _upsert("loss", LossRow._fields, ("key",))
_RETIREMENT = _upsert("retirement", RetirementRow._fields, ("path",))
_PLACE_LOSS = """
UPDATE loss SET file = (
  SELECT path FROM file
  WHERE file.stream = loss.stream AND closed_ms >= loss.until_ms AND first_ms <= loss.until_ms
  ORDER BY number, path LIMIT 1
)
WHERE """
_COLUMNS = ", ".join(Numbered._fields)
_BEFORE = f"SELECT {_COLUMNS} FROM file WHERE stream = ? AND number < ? ORDER BY number DESC, path DESC LIMIT 1"
_FROM = f"SELECT {_COLUMNS} FROM file WHERE stream = ? AND number >= ? ORDER BY number, path"


def apply(connection: sqlite3.Connection, changes: Changes) -> None:
    """Write changes. The result is the same however events are divided among calls. Raises sqlite3.Error."""
    finished = [row for row in changes.files.values() if row.kind == FINISHED]
    likely = _likely_acquisitions(connection, finished)
    rows = (
        (*row, likely.get((row.stream, row.path)) if row.kind == FINISHED else None) for row in changes.files.values()
    )
    connection.executemany(_FILE, rows)
    connection.executemany(_LOSS, changes.losses.values())
    retired = [row for row in changes.retirements.values() if row is not None]
    connection.executemany(_RETIREMENT, retired)
    cancelled = [(path,) for path, row in changes.retirements.items() if row is None]
    connection.executemany("DELETE FROM retirement WHERE path = ?", cancelled)
    connection.executemany(
        "INSERT INTO unreadable (offset, what) VALUES (?, ?) ON CONFLICT (offset) DO NOTHING",
        changes.unreadable.items(),
    )
    for stream, (lowest, highest) in _number_ranges(finished).items():
        _place_in_acquisitions(connection, stream, lowest, highest)
    _place_losses(connection, changes.losses, finished)


def _number_ranges(finished: Iterable[FileRow]) -> Mapping[str, tuple[int, int]]:
    """The lowest and the highest number of each stream's files."""
    found: dict[str, tuple[int, int]] = {}
    for row in finished:
        number = row.number or 0
        low, high = found.get(row.stream, (number, number))
        found[row.stream] = min(low, number), max(high, number)
    return found


def _likely_acquisitions(
    connection: sqlite3.Connection, finished: Iterable[FileRow]
) -> Mapping[tuple[str, str], int]:
    """Return the acquisitions of files, by stream and path, if each was its stream's newest, as nearly all were.

    To change a row's acquisition after it is written takes longer than to write it.
    """
    found: dict[tuple[str, str], int] = {}
    in_order = sorted(finished, key=lambda row: (row.stream, row.number, row.path))
    for stream, rows in groupby(in_order, lambda row: row.stream):
        files = [Numbered(row.path, row.number or 0, row.start_s, row.id, row.closed or "", None) for row in rows]
        before = _before(connection, stream, files[0].number)
        placed = acquisitions(before, files, files[-1].number)
        found.update(((stream, path), number) for number, path in placed)
    return found


def _before(connection: sqlite3.Connection, stream: str, number: int) -> Numbered | None:
    """Return the stream's last file before that number."""
    row = connection.execute(_BEFORE, (stream, number)).fetchone()
    return Numbered._make(row) if row else None


def _place_in_acquisitions(connection: sqlite3.Connection, stream: str, lowest: int, highest: int) -> None:
    before = _before(connection, stream, lowest)
    files = map(Numbered._make, connection.execute(_FROM, (stream, lowest)))
    # All are found before one is changed: SQLite doesn't define what a query sees of changes made meanwhile.
    changed = list(acquisitions(before, files, highest))
    connection.executemany(
        "UPDATE file SET acquisition = ? WHERE path = ? AND stream = ? AND kind = ?",
        [(acquisition, path, stream, FINISHED) for acquisition, path in changed],
    )


def _place_losses(connection: sqlite3.Connection, changed: Iterable[str], finished: Iterable[FileRow]) -> None:
    """Place the losses that changed, and those that a changed file had before, or may have now."""
    if not connection.execute("SELECT EXISTS (SELECT 1 FROM loss)").fetchone()[0]:
        return
    connection.executemany(f"{_PLACE_LOSS} key = ?", ((key,) for key in changed))
    connection.executemany(f"{_PLACE_LOSS} file = ?", ((row.path,) for row in finished))
    connection.executemany(
        f"{_PLACE_LOSS} stream = ? AND until_ms BETWEEN ? AND ?",
        ((row.stream, row.first_ms, row.closed_ms) for row in finished),
    )
