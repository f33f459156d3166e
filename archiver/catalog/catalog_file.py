"""Opens a catalog: to write, which makes it if it is missing, and again if it is damaged; or to read.

A file that is no catalog of ours is never changed.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from urllib.parse import quote

from archiver.catalog.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

_BUSY_S = 10.0
"""How long to wait for another writer; one transaction of a rebuild takes 1 s."""
_CACHE_KB = 65_536
"""At most: a catalog of 100,000 files has 45 MB."""
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_NOT_WRITABLE = frozenset(
    (
        *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH),
        *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOLFS),
    )
)


class CatalogError(Exception):
    """A file can't be used as the catalog; the message says why and what to do."""


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether SQLite found the file damaged."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED


def is_not_writable(error: sqlite3.Error) -> bool:
    """Whether SQLite could not write the file: no right to it, a full disk, another writer that doesn't end."""
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _NOT_WRITABLE


class Unfilled(Enum):
    """Why an opened file has no usable catalog yet, and must be filled."""

    MISSING = "there was none"
    DAMAGED = "it was damaged"
    OTHER_VERSION = "it is of another version of this program"
    TOPIC_RECREATED = "g3.files was deleted and created again"


def open_to_write(path: Path, group: str) -> tuple[sqlite3.Connection, Unfilled | None]:
    """Open the catalog of this group's archive; return it, and why it must be filled (`fill`), None if it needn't.

    A damaged one is deleted. Raises CatalogError; sqlite3.Error, OSError.
    """
    connection = _connect(path, "rwc")
    try:
        found = _version(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may only take it back
        # Else SQLite writes and reads pages several times in a large transaction: of an index all are needed.
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
        theirs = group_of(connection) if found == SCHEMA_VERSION else group
    except sqlite3.Error as error:
        connection.close()
        if not is_damaged(error):
            raise
        return replace_damaged(path), Unfilled.DAMAGED
    except BaseException:
        connection.close()
        raise
    if theirs != group:
        connection.close()
        raise _of_another_group(path, theirs, group)
    if found == SCHEMA_VERSION:
        return connection, None
    return connection, Unfilled.MISSING if found is None else Unfilled.OTHER_VERSION


def replace_damaged(path: Path) -> sqlite3.Connection:
    """Delete a damaged catalog, and open a new, empty file in its place. Raises sqlite3.Error, OSError."""
    with suppress(FileNotFoundError):
        Path(f"{path}-journal").unlink()  # first: it would be taken for the new file's
    with suppress(FileNotFoundError):
        path.unlink()
    return _connect(path, "rwc")


def fill(connection: sqlite3.Connection, made: sqlite3.Connection) -> None:
    """Give a file the content of a catalog in memory, in one transaction: readers see the old one or the new one.

    Not by renaming another file over it: a writer may be in a transaction on this one, and its journal would be taken
    for the new file's, which it would damage. Raises sqlite3.Error.
    """
    made.backup(connection)


def open_to_read(path: Path, group: str | None = None) -> sqlite3.Connection:
    """Open a catalog read-only, for any one thread. group: that it must be of; None for any.

    Raises CatalogError, also if there is none; sqlite3.Error.
    """
    if not os.access(path, os.R_OK):
        raise CatalogError(f"{path}: there is no catalog that can be read; `archiver catalog` makes it")
    connection = _connect(path, "ro")
    try:
        found = _version(connection, path)
        if found != SCHEMA_VERSION:
            raise CatalogError(f"{path}: it is of another version; `archiver catalog` makes it again")
        theirs = group_of(connection)
        if group not in (None, theirs):
            raise _of_another_group(path, theirs, group)
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def in_memory(group: str, copied: sqlite3.Connection | None = None) -> sqlite3.Connection:
    """Open a catalog in memory. copied: the one that it begins as, else empty."""
    # Used by one thread at a time, by a lock.
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if copied is None:
        empty(connection, group)
    else:
        copied.backup(connection)
    return connection


def empty(connection: sqlite3.Connection, group: str) -> None:
    """Make a catalog in memory, with or without content, an empty one. Raises sqlite3.Error."""
    with transaction(connection):
        found = connection.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view')").fetchall()
        for kind, name in found:
            connection.execute(f"DROP {kind} {name}")
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute("INSERT INTO meta (only_row, archive_group, next_offset) VALUES (1, ?, 0)", (group,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def group_of(connection: sqlite3.Connection) -> str:
    """The consumer group of the archive that a catalog is of. Raises sqlite3.DatabaseError."""
    row = connection.execute("SELECT archive_group FROM meta").fetchone()
    if row is None:
        error = sqlite3.DatabaseError("the table meta is empty")
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error
    return str(row[0])


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Context of a transaction that no other writer can come between."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite itself rolls back after some errors
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file. Not in WAL mode: the data directory may be on NFS, where that doesn't work."""
    # Its transactions are all explicit; each connection is used by one thread at a time.
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)


def _version(connection: sqlite3.Connection, path: Path) -> int | None:
    """The schema's version; None if the file is empty. Raises CatalogError if it is no catalog; sqlite3.Error."""
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if not application_id and not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            return None
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise _foreign(path, "it is no SQLite file") from None
    if application_id != APPLICATION_ID:
        raise _foreign(path, "it is another program's SQLite file")
    return int(version)


def _foreign(path: Path, why: str) -> CatalogError:
    return CatalogError(f"{path} is no catalog of this program, and is left alone: {why}. Choose another --catalog")


def _of_another_group(path: Path, theirs: str, group: str | None) -> CatalogError:
    return CatalogError(
        f"{path} is the catalog of the group {theirs}, not of {group}: give the right --group, or another --catalog"
    )
