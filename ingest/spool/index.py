"""The spool's files as they lie in their directory, which of their bundles still wait, and reading through them."""

import contextlib
import errno
import logging
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

from g3stream.contract.headers import RecordHeaders
from ingest.spool.batch import decode_batch
from ingest.spool.data_file import SpoolFileName, SpoolFileReader
from ingest.spool.ledger import Ledger, LedgerFile

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SpoolFile:
    """A file of the spool. end_key: the key after its last bundle; None while it is written.

    first_unacked: all bundles below it are removed; acked: others that are.
    """

    path: Path
    name: SpoolFileName
    size_bytes: int
    end_key: int | None
    first_unacked: int
    acked: set[int] = field(default_factory=set)
    acked_bytes: int = 0
    damaged: bool = False
    disposed: bool = False

    @classmethod
    def new(cls, directory: Path, first_key: int) -> "SpoolFile":
        """One that begins with that key, and is yet to be made."""
        name = SpoolFileName.new(first_key)
        return cls(directory / str(name), name, 0, None, first_key)

    def unacked_batches(self, end_key: int) -> int:
        """How many of its bundles wait. end_key: the key after the spool's last."""
        return max(0, (end_key if self.end_key is None else self.end_key) - self.first_unacked - len(self.acked))

    @property
    def unacked_bytes(self) -> int:
        """About how many bytes they have, when it was opened."""
        return max(0, self.size_bytes - self.acked_bytes)

    def has_unacked(self, key: int, end_key: int) -> bool:
        """Whether that bundle is one of its own, and waits."""
        return (
            self.first_unacked <= key < (end_key if self.end_key is None else self.end_key) and key not in self.acked
        )

    def acknowledge(self, key: int, end_key: int) -> bool:
        """Take that bundle as removed; whether it had been waiting."""
        if not self.has_unacked(key, end_key):
            return False
        self.acked.add(key)
        while self.first_unacked in self.acked:
            self.acked.remove(self.first_unacked)
            self.first_unacked += 1
        return True

    def skip_acknowledged(self, first_unacked: int) -> None:
        """On opening: all below that key is removed. Raises OSError if it can't be opened."""
        reader = SpoolFileReader(self.path, self.name)  # each is: a file of another user is said at once
        try:
            if first_unacked > self.name.first_key:
                self.first_unacked = min(first_unacked, self.end_key or 0)
                while self.first_unacked != self.end_key and (location := reader.next_location(self.first_unacked)):
                    self.acked_bytes = location.offset + location.size_bytes
        finally:
            reader.close()

    def rename_with_end(self) -> None:
        """Say in its name where it ends. Raises OSError."""
        name = self.name._replace(end_key=self.end_key)
        self.path = self.path.rename(self.path.with_name(str(name)))
        self.name = name


class Cursor:
    """A place in the files, from which reading goes on: one file is open at a time."""

    def __init__(self, rename_lock: threading.Condition) -> None:
        self._rename_lock = rename_lock  # held by whoever renames a file
        self._after_key = -1
        self._next_key = 0
        self._file: SpoolFile | None = None
        self._reader: SpoolFileReader | None = None

    def next_key(self, after_key: int) -> int:
        """The least key that `read` may still give."""
        return self._next_key if after_key == self._after_key else after_key + 1

    def read(
        self, files: list[SpoolFile], after_key: int, end_key: int
    ) -> tuple[tuple[int, bytes] | None, list[tuple[SpoolFile, int, int]]]:
        """The next bundle beyond key `after_key` that waits: its key and value; None if there is none yet.

        files: in order. end_key: the key after the spool's last. And the keys passed over on the way, for they can't
        be read: file, first, and the one beyond.
        """
        damaged: list[tuple[SpoolFile, int, int]] = []
        if after_key != self._after_key:
            self.close()
            self._after_key, self._next_key = after_key, after_key + 1
        while self._next_key < end_key:
            if self._file is None and not self._open(files, end_key, damaged):
                break
            assert self._file
            file_end_key = end_key if self._file.end_key is None else self._file.end_key
            location = self._reader.next_location(file_end_key) if self._reader else None
            readable_from = location.key if location else file_end_key
            if readable_from > self._next_key:
                _add_damage(damaged, self._file, self._next_key, readable_from)
                self._next_key = readable_from
            if location is None:
                if self._file.end_key is not None:
                    self.close()
                continue
            if location.key < self._next_key:
                continue
            self._next_key = location.key + 1
            if not self._file.has_unacked(location.key, end_key):
                continue
            assert self._reader
            value = self._reader.value(location)
            if value is None:
                _add_damage(damaged, self._file, location.key, location.key + 1)
                continue
            self._after_key = location.key
            return (location.key, value), damaged
        return None, damaged

    def close(self) -> None:
        """Close the file that is open."""
        if self._reader:
            self._reader.close()
        self._file = self._reader = None

    def _open(self, files: list[SpoolFile], end_key: int, damaged: list[tuple[SpoolFile, int, int]]) -> bool:
        for file in files:
            file_end_key = end_key if file.end_key is None else file.end_key
            if file_end_key > self._next_key:
                # Bundles between two files are in a file that was removed, when all of them were.
                self._file, self._next_key = file, max(self._next_key, file.name.first_key)
                try:
                    with self._rename_lock:
                        self._reader = SpoolFileReader(file.path, file.name)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                        self._file = None
                        return False  # it isn't the file's fault: to be tried again
                    _add_damage(damaged, file, self._next_key, file_end_key)
                    self._next_key = file_end_key
                    self._file = None
                    continue
                return True
        return False


def _add_damage(damaged: list[tuple[SpoolFile, int, int]], file: SpoolFile, first_key: int, end_key: int) -> None:
    if damaged and damaged[-1][0] is file and damaged[-1][2] == first_key:
        first_key = damaged.pop()[1]
    damaged.append((file, first_key, end_key))


def find_files(directory: Path) -> list[SpoolFile]:
    """The files of the spool there, in order; whatever else lies there is left alone. Raises OSError."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if name := SpoolFileName.parse(entry.name):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(SpoolFile(Path(entry.path), name, size, name.end_key, name.first_key))
    return sorted(found, key=lambda file: file.name.first_key)


def open_ledger(root: Path, directory: Path) -> tuple[LedgerFile, Ledger | None]:
    """What the spool there remembers, None if it is new or that is damaged: then it is told, and set aside.

    directory: of its files. Raises OSError.
    """
    path = root / "state"
    new = not any(find_files(directory)) and _never_written(path)
    file = ledger = None
    with contextlib.suppress(IsADirectoryError):
        file = LedgerFile(path)
        ledger = file.read()
    if not new and ledger is None:
        log.error("the spool's %s is damaged; set aside: %s", path, quarantine(path, root))
        if file:
            file.close()
        file = None
    return file or LedgerFile(path), ledger


def _never_written(path: Path) -> bool:
    """Whether there is no such file, or one that a killed ingest had just made."""
    try:
        return os.lstat(path).st_size == 0
    except FileNotFoundError:
        return True


def recover_files(directory: Path, ledger: Ledger | None) -> list[SpoolFile]:
    """The files of the spool there, in order, with where each ends, and what of each waits. Raises OSError."""
    files = find_files(directory)
    for n, file in enumerate(files):
        if file.end_key is None:
            # The last one, as a rule: it was written to when ingest was killed.
            file.end_key = files[n + 1].name.first_key if n + 1 < len(files) else _recover_end_key(file, ledger)
            with contextlib.suppress(OSError):
                file.rename_with_end()  # a later start can't tell it any more
        file.skip_acknowledged(ledger.first_unacked if ledger else 0)
    if ledger and ledger.first_unacked < ledger.next_key and not files:
        log.error(
            "%d bundles are missing in the spool in %s; their records are lost",
            ledger.next_key - ledger.first_unacked,
            directory,
        )
    return files


def _recover_end_key(file: SpoolFile, ledger: Ledger | None) -> int:
    """The key after the last bundle of an append that was written whole; or, if it is later, what the state says.

    What follows its bundles, from before the file was written over, doesn't count in its size any more; nor does it
    make an append whole that was cut by a kill: the file's length says nothing, only the CRCs do.
    """
    known_key = ledger.next_key if ledger else 0
    end_key = max(file.name.first_key, known_key)
    file.size_bytes = 0
    whole = True
    reader = SpoolFileReader(file.path, file.name)
    try:
        for location in reader.locations():
            file.size_bytes = location.offset + location.size_bytes
            whole = whole and (location.key < known_key or reader.value(location) is not None)
            if not location.append_continues:
                if whole:
                    end_key = max(end_key, location.key + 1)
                whole = True
    finally:
        reader.close()
    return end_key


def find_last_record(files: list[SpoolFile], first_key: int) -> tuple[str, int] | None:
    """Epoch and seq of the last record with a bundle's key from `first_key` on; None if there is none to be read."""
    for file in reversed(files):
        last = None
        reader = SpoolFileReader(file.path, file.name)
        try:
            for location in reader.locations():
                if first_key <= location.key < (file.end_key or 0) and (value := reader.value(location)):
                    for record in decode_batch(value):
                        if not record.rejected:
                            headers = RecordHeaders.from_kafka((name, text.encode()) for name, text in record.headers)
                            last = (headers.epoch, headers.seq)
        finally:
            reader.close()
        if last:
            return last
    return None


def quarantine(path: Path, root: Path) -> Path:
    """Move it out of the spool's way; gives where it lies now. Nobody deletes it but the operator. Raises OSError."""
    aside = root / "damaged"
    try:
        aside.mkdir(exist_ok=True)
    except OSError:  # the disk is full; under its new name it isn't one of the spool's files any more
        aside = path.parent
    return path.rename(aside / f"{path.name}.{secrets.token_hex(4)}")
