"""The SQLite database of socs' SupRsync agent, by socs' own classes (PyPI `socs`, the extra `[socs]`).

Other programs use it at the same time, and lock it for as long as a transaction of theirs takes: then, as for
whatever else SQLite says, DatabaseError is raised soon, and all may be done again.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from socs.db.suprsync import SupRsyncFile, SupRsyncFilesManager, TimecodeDir
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

_BUSY_TIMEOUT_MS = 1000


class DatabaseError(Exception):
    """The database can't be used now; the message says why."""


class SupRsyncDatabase:
    """Rows of one archive (as SupRsync's --archive-name) in the file `path`, made when it is first used. For any
    thread. All raise DatabaseError."""

    def __init__(self, path: Path, archive_name: str) -> None:
        self.path = path
        self.archive_name = archive_name
        self._manager: SupRsyncFilesManager | None = None

    def md5_of(self, local_path: Path) -> str | None:
        """The MD5 that a file is registered with; None if it isn't registered."""
        with self._session() as session:
            return self._md5_of(session, local_path)

    def add(self, local_path: Path, remote_path: str, md5: str, timestamp: float) -> str | None:
        """Register a file, if it isn't yet; gives the MD5 that it was registered with before. timestamp: now, s."""
        with self._session() as session:
            # At once the transaction that writes: else another program could add it between the look and the row.
            session.execute(text("BEGIN IMMEDIATE"))
            found = self._md5_of(session, local_path)
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
        """Those of which files are registered, and the newest of any archive; -1 if there is none."""
        with self._session() as session:
            rows = [(int(row[0]), row[1]) for row in session.query(TimecodeDir.timecode, TimecodeDir.archive_name)]
        ours = {timecode for timecode, archive_name in rows if archive_name == self.archive_name}
        return sorted(ours), max((timecode for timecode, _ in rows), default=-1)

    def count(self) -> int:
        """How many files are registered."""
        with self._session() as session:
            rows = session.query(SupRsyncFile.id).filter(SupRsyncFile.archive_name == self.archive_name)
            return int(rows.count())

    def remote_paths(self, timecode: int) -> list[str]:
        """Those of the timecode's files."""
        with self._session() as session:
            rows = session.query(SupRsyncFile.remote_path).filter(
                SupRsyncFile.archive_name == self.archive_name, SupRsyncFile.remote_path.like(f"{timecode}/%")
            )
            return sorted(str(path) for (path,) in rows)

    def _md5_of(self, session: Any, local_path: Path) -> str | None:
        row = (
            session.query(SupRsyncFile.local_md5sum)
            .filter(SupRsyncFile.local_path == str(local_path), SupRsyncFile.archive_name == self.archive_name)
            .first()
        )
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
        if self._manager is None:
            try:
                self._manager = SupRsyncFilesManager(str(self.path))
            except OSError as error:
                raise DatabaseError(f"the database {self.path} can't be made: {error}") from error
        return self._manager
