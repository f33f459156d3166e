"""Files by an expression of SQL that a user wrote, as `archiver files --where` has it.

No expression can change anything, read another file, or run without an end.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION))
_MAX_S = 10.0
_CHECKED_EACH = 10_000
"""Instructions of SQLite's virtual machine: about 0.1 ms."""
_LIMITS = {sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 200}
"""Of values and patterns: a single function call can't be interrupted, and could take all memory."""


class ExpressionError(ValueError):
    """The expression can't be evaluated; the message says why, and what there is."""


def paths_where(connection: sqlite3.Connection, expression: str, session: int | None = None) -> list[str]:
    """Return the paths of the rows of the view `files` for which an expression on its columns is true.

    session: only of this session. Raises ExpressionError; sqlite3.Error if the catalog can't be read.
    """
    # The expression may end with a comment; then the bracket must be on another line.
    query = f"SELECT path FROM files WHERE (?1 IS NULL OR session = ?1) AND ({expression}\n)"
    columns = [row[1] for row in connection.execute("PRAGMA table_info(files)")]
    with _restricted(connection):
        try:
            # Values too large for SQLite, NULs and the like: ValueError, OverflowError; two statements: Warning.
            return [str(path) for (path,) in connection.execute(query, (session,))]
        except (sqlite3.DatabaseError, sqlite3.Warning, ValueError, OverflowError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF in (
                sqlite3.SQLITE_CORRUPT,
                sqlite3.SQLITE_IOERR,
                sqlite3.SQLITE_BUSY,
            ):
                raise
            why = f"it takes more than {_MAX_S:g} s" if code == sqlite3.SQLITE_INTERRUPT else str(error)
            raise ExpressionError(f"{why}; the columns are {', '.join(columns)}") from None


@contextmanager
def _restricted(connection: sqlite3.Connection) -> Iterator[None]:
    """Context in which a connection may only read, with limits of time and memory."""
    until_s = time.monotonic() + _MAX_S
    before = {limit: connection.setlimit(limit, value) for limit, value in _LIMITS.items()}
    connection.set_authorizer(_authorize)
    connection.set_progress_handler(lambda: time.monotonic() > until_s, _CHECKED_EACH)
    try:
        yield
    finally:
        connection.set_progress_handler(None, 0)
        connection.set_authorizer(None)
        for limit, value in before.items():
            connection.setlimit(limit, value)


def _authorize(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    refused = action not in _ALLOWED or (action == sqlite3.SQLITE_FUNCTION and name == "load_extension")
    return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK
