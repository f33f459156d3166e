"""An archive whose files are registered with socs' SupRsync agent: its database, and a process that locks it."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")

from socs.db.suprsync import SupRsyncFile, SupRsyncFilesManager  # after the skip
from sqlalchemy.exc import OperationalError


def rows(db: Path) -> list[SupRsyncFile]:
    """All that is registered, in the order in which it was."""
    if not db.exists():
        return []
    try:
        with SupRsyncFilesManager(str(db), create_all=False).Session() as session:
            return list(session.query(SupRsyncFile).order_by(SupRsyncFile.id).all())
    except OperationalError as error:
        # The archiver is just making it: nothing waits for a database that is being switched to WAL.
        if "no such table" in str(error) or "database is locked" in str(error):
            return []
        raise


@contextmanager
def locked(db: Path) -> Iterator[None]:
    """Another process holds the database, as SupRsync does while it writes."""
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(db)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.communicate()
