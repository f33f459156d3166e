"""Queries of the catalog, each a function of a connection; recorded.py has what they return.

Times are ms since the epoch. A time range [since_ms, until_ms] selects what overlaps it; None: without that end.
All functions raise sqlite3.Error.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import groupby
from typing import TypeVar

from archiver.catalog.recorded import (
    Acquisition,
    Loss,
    Page,
    Recorded,
    RecordedFile,
    Retirement,
    Search,
    Session,
    overlaps,
)
from archiver.catalog.rows import FINISHED
from archiver.catalog.schema import BEST

T = TypeVar("T")

_FILE_COLUMNS = [field.name for field in fields(RecordedFile)][:-2]
_LOSS_COLUMNS = [field.name for field in fields(Loss)]
_RETIREMENT_COLUMNS = [field.name for field in fields(Retirement)]
_FILES = f"SELECT {', '.join('file.' + name for name in _FILE_COLUMNS)} FROM file "
_LOSSES = f"SELECT {', '.join(_LOSS_COLUMNS)} FROM loss "
_MANY = 500
"""Values in one query; SQLite takes 32,766."""


def recorded(
    connection: sqlite3.Connection,
    since_ms: int | None = None,
    until_ms: int | None = None,
    streams: Collection[str] = (),
) -> Recorded:
    """Return all acquisitions that overlap a time, whole; salvaged and adopted files; other losses."""
    of_streams, values = _among("stream", streams)
    condition, times = _overlap(since_ms, until_ms)
    if since_ms is None and until_ms is None:
        found = _files(
            connection, f"WHERE kind = '{FINISHED}' AND {of_streams} ORDER BY stream, number, path", values
        )
    else:
        # Without INDEXED BY, here and below, SQLite 3.40 prefers an index that spares it a sort: 0.15 s, not 5 ms.
        query = (
            f"SELECT DISTINCT stream, acquisition FROM file INDEXED BY file_time WHERE {condition} AND {of_streams}"
        )
        keys = connection.execute(f"{query} AND acquisition IS NOT NULL", (*times, *values)).fetchall()
        found = _of_acquisitions(connection, keys)
    whole = [
        acquisition
        for acquisition in acquisitions_of(found)
        if overlaps(acquisition.first_ms, acquisition.last_ms, since_ms, until_ms)
    ]
    others = _files(
        connection,
        f"WHERE kind <> '{FINISHED}' AND {condition} AND {of_streams} AND {BEST} ORDER BY begin_ms, id_row",
        (*times, *values),
    )
    # A loss lasts from the last record before it to the one that revealed it.
    ends = [("until_ms >= ?", since_ms), ("ifnull(since_ms, until_ms) <= ?", until_ms)]
    in_time = " AND ".join([text for text, value in ends if value is not None] or ["1"])
    losses = connection.execute(
        f"{_LOSSES} WHERE file IS NULL AND {in_time} AND {of_streams} ORDER BY ifnull(since_ms, until_ms), id_row",
        (*(value for _, value in ends if value is not None), *values),
    )
    return Recorded(
        tuple(sorted(whole, key=lambda it: it.first_ms)), tuple(others), tuple(Loss(*row) for row in losses)
    )


def acquisitions_of(files: Iterable[RecordedFile]) -> list[Acquisition]:
    """Group finished files, which are in order within their streams, into acquisitions."""
    return [
        Acquisition(tuple(group))
        for _, group in groupby(files, lambda it: (it.stream, it.acquisition, it.start_s, it.id))
    ]


def file_at(connection: sqlite3.Connection, path: str) -> RecordedFile | None:
    """Return the file of that path below the data directory, as far as it is best known."""
    found = _files(connection, f"WHERE path = ? AND {BEST} ORDER BY id_row DESC LIMIT 1", (path,))
    return found[0] if found else None


def acquisition(connection: sqlite3.Connection, stream: str, number: int) -> Acquisition | None:
    """Return the acquisition of a stream that a file belongs to, by the file's number."""
    key = connection.execute("SELECT stream, acquisition FROM file WHERE stream = ? AND number = ?", (stream, number))
    found = _of_acquisitions(connection, key.fetchall())
    return Acquisition(tuple(found)) if found else None


def session_files(connection: sqlite3.Connection, session: int, streams: Collection[str] = ()) -> list[RecordedFile]:
    """Return the files of a session, by stream and number."""
    of_streams, values = _among("stream", streams)
    return _files(connection, f"WHERE session = ? AND {of_streams} ORDER BY stream, number, path", (session, *values))


def sessions(connection: sqlite3.Connection, limit: int = 100, before: int | None = None) -> list[Session]:
    """Return the newest sessions, the newest first. before: only those with a lower id, for paging."""
    rows = connection.execute(
        "SELECT session, group_concat(DISTINCT stream), min(first_ms), max(last_ms), count(*),"
        " total(frames), total(missing), total(bytes) FROM file"
        " WHERE session IS NOT NULL AND session < ? GROUP BY session ORDER BY session DESC LIMIT ?",
        (2**63 - 1 if before is None else before, limit),
    )
    return [
        Session(session, tuple(sorted(streams.split(","))), first, last, files, *map(int, sums))
        for session, streams, first, last, files, *sums in rows
    ]


def search(connection: sqlite3.Connection, wanted: Search, page: int = 1, per_page: int = 100) -> Page:
    """Return a page of the files that are looked for, the newest first. page: from 1."""
    of_streams, values = _among("stream", wanted.streams)
    condition, times = _overlap(wanted.since_ms, wanted.until_ms)
    terms = [condition, of_streams, BEST]
    found: list[str | int] = [*times, *values]
    if wanted.session is not None:
        terms.append("session = ?")
        found.append(wanted.session)
    if wanted.missing:
        terms.append("(missing > 0 OR path IN (SELECT file FROM loss WHERE file IS NOT NULL))")
    where = "WHERE " + " AND ".join(terms)
    (total,) = connection.execute(f"SELECT count(*) FROM file {where}", found).fetchone()
    rows = (*found, per_page, max(0, page - 1) * per_page)
    return Page(
        tuple(_files(connection, f"{where} ORDER BY begin_ms DESC, id_row DESC LIMIT ? OFFSET ?", rows)), total
    )


def files_at(connection: sqlite3.Connection, paths: Sequence[str]) -> list[RecordedFile]:
    """Return the files of these paths, by stream, number and time."""
    found: list[RecordedFile] = []
    for part in _parts(paths):
        marks = ", ".join("?" * len(part))
        found += _files(connection, f"WHERE path IN ({marks}) AND {BEST}", part)
    return sorted(found, key=lambda it: (it.stream, it.number or 0, it.begin_ms, it.path))


def view_rows(
    connection: sqlite3.Connection, paths: Sequence[str]
) -> tuple[list[str], Mapping[str, list[tuple[str | int | None, ...]]]]:
    """Return the columns of the view `files`, and its rows of these paths, by path, which is the first column."""
    columns = [row[1] for row in connection.execute("PRAGMA table_info(files)")]
    found: dict[str, list[tuple[str | int | None, ...]]] = {}
    for part in _parts(paths):
        among, values = _among("path", part)
        for row in connection.execute(f"SELECT * FROM files WHERE {among}", values):
            found.setdefault(row[0], []).append(row)
    return columns, found


def last_losses(connection: sqlite3.Connection) -> Mapping[str, Loss]:
    """Return the last loss of each stream that has any."""
    streams = connection.execute("SELECT DISTINCT stream FROM loss").fetchall()
    one = f"{_LOSSES} WHERE stream = ? ORDER BY until_ms DESC, id_row DESC LIMIT 1"
    return {stream: Loss(*connection.execute(one, (stream,)).fetchone()) for (stream,) in streams}


def losses(
    connection: sqlite3.Connection,
    since_ms: int | None = None,
    until_ms: int | None = None,
    streams: Collection[str] = (),
) -> list[Loss]:
    """Return the losses that were noticed in a time, in order, those of files included."""
    of_streams, values = _among("stream", streams)
    low, high = -(2**63) if since_ms is None else since_ms, 2**63 - 1 if until_ms is None else until_ms
    query = f"{_LOSSES} WHERE until_ms BETWEEN ? AND ? AND {of_streams} ORDER BY until_ms, id_row"
    return [Loss(*row) for row in connection.execute(query, (low, high, *values))]


def spans(connection: sqlite3.Connection, since_ms: int, until_ms: int) -> list[tuple[int, int]]:
    """Return when each file that overlaps a time begins and ends."""
    query = "SELECT begin_ms, end_ms FROM file INDEXED BY file_time WHERE end_ms >= ? AND begin_ms <= ?"
    return connection.execute(query, (since_ms, until_ms)).fetchall()


def unreadable(connection: sqlite3.Connection) -> list[str]:
    """Return why each event that can't be understood can't."""
    return [what for (what,) in connection.execute("SELECT what FROM unreadable ORDER BY offset")]


def counts(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of files, and of losses."""
    files, losses = connection.execute(
        f"SELECT (SELECT count(*) FROM file WHERE {BEST}), (SELECT ifnull(sum(times), 0) FROM loss)"
    ).fetchone()
    return files, losses


def streams(connection: sqlite3.Connection) -> list[str]:
    """Return the streams with files or losses, sorted."""
    found = connection.execute("SELECT stream FROM file UNION SELECT stream FROM loss ORDER BY 1")
    return [stream for (stream,) in found]


def _files(connection: sqlite3.Connection, rest: str, values: Sequence[str | int]) -> list[RecordedFile]:
    """Return the files of a query, with their losses and retirements. rest: from WHERE on, about the table `file`."""
    rows = connection.execute(_FILES + rest, values).fetchall()
    with_losses = _losses_of(connection, [row[0] for row in rows])
    retired = _retirements_of(connection, [row[0] for row in rows])
    found = []
    for row in rows:
        file = RecordedFile(*row)
        losses_of, retired_of = with_losses.get(file.path, ()), retired.get(file.path)
        if losses_of and file.kind == FINISHED:
            file = replace(file, losses=tuple(losses_of))
        if retired_of and retired_of.sha256 == file.sha256:
            file = replace(file, retired=retired_of)
        found.append(file)
    return found


def _of_acquisitions(connection: sqlite3.Connection, keys: Iterable[tuple[str, int]]) -> list[RecordedFile]:
    """Return the files of acquisitions, each given by its stream and number, by stream and file number."""
    found: list[RecordedFile] = []
    by_stream = {
        stream: [number for _, number in numbers] for stream, numbers in groupby(sorted(keys), lambda it: it[0])
    }
    for stream, numbers in by_stream.items():
        for part in _parts(numbers):
            marks = ", ".join("?" * len(part))
            rest = f"INDEXED BY file_acquisition WHERE stream = ? AND acquisition IN ({marks}) ORDER BY number, path"
            found += _files(connection, rest, (stream, *part))
    return found


def _losses_of(connection: sqlite3.Connection, paths: Sequence[str]) -> Mapping[str, list[Loss]]:
    """Return the losses of these files, by path."""
    found: dict[str, list[Loss]] = {}
    for part in _parts_or_all(connection, "SELECT count(*) FROM loss WHERE file IS NOT NULL", paths):
        among, values = _among("file", part)
        for row in connection.execute(f"{_LOSSES} WHERE file IS NOT NULL AND {among} ORDER BY id_row", values):
            found.setdefault(row[-1], []).append(Loss(*row))
    return found


def _retirements_of(connection: sqlite3.Connection, paths: Sequence[str]) -> Mapping[str, Retirement]:
    """Return the retirements of these paths."""
    found: dict[str, Retirement] = {}
    for part in _parts_or_all(connection, "SELECT count(*) FROM retirement", paths):
        among, values = _among("path", part)
        query = f"SELECT {', '.join(_RETIREMENT_COLUMNS)} FROM retirement WHERE {among}"
        found |= {row[0]: Retirement(*row) for row in connection.execute(query, values)}
    return found


def _parts_or_all(connection: sqlite3.Connection, count: str, paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the paths in parts; once nothing, for all rows of a table that has fewer than there are paths."""
    (rows,) = connection.execute(count).fetchone()
    if not rows or not paths:
        return
    if rows < len(paths):
        yield ()
    else:
        yield from _parts(paths)


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[start : start + _MANY] for start in range(0, len(values), _MANY))


def _among(column: str, values: Collection[str]) -> tuple[str, Sequence[str]]:
    """Return the condition that a column has one of these values (any, if there is none), and its parameters."""
    return (f"{column} IN ({', '.join('?' * len(values))})", sorted(values)) if values else ("1", ())


def _overlap(since_ms: int | None, until_ms: int | None) -> tuple[str, Sequence[int]]:
    """Return the condition that a file overlaps a time, and its parameters."""
    ends = [("end_ms >= ?", since_ms), ("begin_ms <= ?", until_ms)]
    given = [(text, value) for text, value in ends if value is not None]
    return " AND ".join(text for text, _ in given) or "1", [value for _, value in given]
