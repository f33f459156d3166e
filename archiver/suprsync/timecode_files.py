"""TimecodeFiles: writes the files that say that a timecode is complete (timecodes.py), each once and durably.

Which were written is recorded in the private directory: an observatory's clean-up jobs delete the files themselves,
like all others, once copies are safe.
"""

import logging
import os
import re

import yaml

from archiver.archive.location import Location
from archiver.suprsync import timecodes
from archiver.suprsync.database import SupRsyncDatabase
from archiver.suprsync.finalized_until import FinalizedUntil

log = logging.getLogger(__name__)

_RECORD = "suprsync.finalized"
"""With a dot, which no stream's name has: the directories beside it are the streams'."""
_MAX_BYTES = 8 << 20
_LINE = re.compile(r"([0-9]{1,5}) (\S+)")


class TimecodeFiles:
    """Writes the files. location: of the archive. instance_id: the agent's, a part of their paths.

    For one thread, except `is_finalized`. Its methods raise OSError.
    """

    def __init__(self, location: Location, database: SupRsyncDatabase, instance_id: str) -> None:
        self._location = location
        self._database = database
        self._instance_id = instance_id

    def is_finalized(self, timecode: int) -> bool:
        """Whether a timecode's file was written; for any thread."""
        return timecode in self._written()

    def write(self, found: FinalizedUntil, now: float) -> list[int]:
        """Write the files of the timecodes that are complete now; return these timecodes.

        now: s since the epoch. Raises OSError, DatabaseError.
        """
        written = self._written()
        known, newest = self._database.timecodes()
        until = found.time_ms / 1000
        complete = [
            timecode
            for timecode in known
            if timecode not in written and timecodes.is_complete(timecode, newest, now, until, found.directories)
        ]
        for timecode in complete:
            if not self._is_there(timecode, now):
                self._write(timecode, until, now)
            self._remember(timecode)
        return complete

    def _write(self, timecode: int, until: float, now: float) -> None:
        name = self._database.archive_name
        paths = self._database.remote_paths(timecode)
        text = yaml.dump(timecodes.summary(timecode, name, self._instance_id, paths, now, until))
        path = timecodes.file_path(timecode, name, self._instance_id, now)
        parent, _, final = path.rpartition("/")
        with (
            self._location.private() as private,
            self._location.data(parent, make=True) as directory,
            private.temporary_file(final, text.encode()) as temporary,
        ):
            private.publish(temporary, directory, final)
            directory.sync()
        log.info("timecode %d is complete, of %d files: wrote %s", timecode, len(paths), path)

    def _is_there(self, timecode: int, now: float) -> bool:
        """Whether the file exists: an archiver may have been killed between writing and recording it."""
        for day in range(timecode, timecodes.timecode_of(now) + 1):
            try:
                with self._location.data(f"{day}/{timecodes.SUBDIRECTORY}/{self._instance_id}") as directory:
                    names = directory.names()
            except FileNotFoundError:
                continue
            if any(timecodes.is_file_of(name, timecode, self._database.archive_name) for name in names):
                return True
        return False

    def _written(self) -> frozenset[int]:
        """Read which timecodes' files were written."""
        with self._location.private() as private:
            text = private.read(_RECORD, _MAX_BYTES).decode(errors="replace") if private.stat(_RECORD) else ""
        lines = [_LINE.fullmatch(line) for line in text.splitlines()]
        return frozenset(int(line[1]) for line in lines if line and line[2] == self._database.archive_name)

    def _remember(self, timecode: int) -> None:
        with self._location.private() as private:
            fd = private.open(_RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(f"{timecode} {self._database.archive_name}\n")
                file.flush()
                os.fsync(file.fileno())
            private.sync()
