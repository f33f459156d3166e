"""The SQLite database of socs' SupRsync agent, used through socs' own classes (PyPI `socs`, the extra `[socs]`).

Other programs use it at the same time, and lock it during their transactions: then, as for any other error of SQLite,
DatabaseError is raised within about a second, and the call may be repeated.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from socs.db.suprsync import Base, SupRsyncFile, SupRsyncFilesManager, TimecodeDir
from sqlalchemy import func, text, true
from sqlalchemy.exc import SQLAlchemyError

_BUSY_TIMEOUT_MS = 1000


class DatabaseError(Exception):
    """The database can't be used now; the message says why."""


class Registration(NamedTuple):
    """The result of a lookup of a file."""

    md5: str | None
    """The MD5 in its row; None if it has no row."""
    newest: int
    """All rows up to this id were searched."""


class SupRsyncDatabase:
    """The rows of one archive (SupRsync's --archive-name) in the file `path`, which is created at its first use.

    For any thread. Its methods raise DatabaseError.
    """

    def __init__(self, path: Path, archive_name: str) -> None:
        self.path = path
        self.archive_name = archive_name
        self._manager: SupRsyncFilesManager | None = None
        self._opening = threading.Lock()

    def lookup(self, local_path: Path) -> "Registration":
        """Look up whether a file is registered: without an index 0.1 to 0.3 s for a million rows, but no lock."""
        with self._session() as session:
            newest = session.query(func.max(SupRsyncFile.id)).scalar() or 0
            return Registration(self._md5_of(session, local_path, true()), newest)

    def add(self, local_path: Path, remote_path: str, md5: str, timestamp: float, look: "Registration") -> str | None:
        """Register a file, unless another program has done so since `look`; return that one's MD5, else None.

        look: the result of `lookup`: not registered. timestamp: now, s since the epoch.
        """
        with self._session() as session:
            # A write transaction from the start: else another program could add a row between this query and ours.
            session.execute(text("BEGIN IMMEDIATE"))
            found = self._md5_of(session, local_path, SupRsyncFile.id > look.newest)
            if found is None:
                self._opened().add_file(
                    str(local_path),
                    remote_path,
                    self.archive_name,
                    local_md5sum=md5,
                    timestamp=timestamp,
                    session=session,
                    deletable=True,
                )
            return found

    def timecodes(self) -> tuple[list[int], int]:
        """Return the timecodes with registered files, and the newest one of any archive; -1 if there is none."""
        with self._session() as session:
            rows = [(int(row[0]), row[1]) for row in session.query(TimecodeDir.timecode, TimecodeDir.archive_name)]
        ours = {timecode for timecode, archive_name in rows if archive_name == self.archive_name}
        return sorted(ours), max((timecode for timecode, _ in rows), default=-1)

    def count(self) -> int:
        """Return how many files are registered."""
        with self._session() as session:
            rows = session.query(SupRsyncFile.id).filter(SupRsyncFile.archive_name == self.archive_name)
            return int(rows.count())

    def remote_paths(self, timecode: int) -> list[str]:
        """Return the remote paths of a timecode's files."""
        with self._session() as session:
            rows = session.query(SupRsyncFile.remote_path).filter(
                SupRsyncFile.archive_name == self.archive_name, SupRsyncFile.remote_path.like(f"{timecode}/%")
            )
            return sorted(str(path) for (path,) in rows)

    def _md5_of(self, session: Any, local_path: Path, among: Any) -> str | None:
        rows = session.query(SupRsyncFile.local_md5sum).filter(
            among, SupRsyncFile.local_path == str(local_path), SupRsyncFile.archive_name == self.archive_name
        )
        row = rows.first()
        return None if row is None else str(row[0])

    @contextmanager
    def _session(self) -> Iterator[Any]:
        try:
            with self._opened().Session.begin() as session:
                session.execute(text(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}"))
                yield session
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error  # without the statement that SQLAlchemy adds
            raise DatabaseError(f"the database {self.path}: {reason}") from error

    def _opened(self) -> SupRsyncFilesManager:
        with self._opening:
            if self._manager is None:
                try:
                    self.path.absolute().parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise DatabaseError(f"the database {self.path} can't be created: {error}") from error
                manager = SupRsyncFilesManager(str(self.path), create_all=False)
                with manager.Session.begin() as session:
                    # In a write transaction: else another program could create a table after create_all has looked
                    # for it (33 of 40 times, where two open a new database at once).
                    session.execute(text("BEGIN IMMEDIATE"))
                    Base.metadata.create_all(session.connection())
                self._manager = manager
            return self._manager
