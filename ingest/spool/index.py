"""The spool's files as they lie in their directory, which of their bundles still wait, and reading through them."""

import contextlib
import errno
import logging
import os
import secrets
import threading
from dataclasses import dataclass, field
from pathlib import Path

from g3stream.contract.headers import Label
from ingest.spool.batch import records
from ingest.spool.data_file import SpoolFileName, SpoolFileReader
from ingest.spool.ledger import SpoolState, StateFile

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SpoolFile:
    """A file of the spool. end: the key after its last bundle; None while it is written.

    low: all bundles below it are removed; gone: others that are.
    """

    path: Path
    name: SpoolFileName
    size: int
    end: int | None
    low: int
    gone: set[int] = field(default_factory=set)
    passed_bytes: int = 0
    damaged: bool = False
    dropped: bool = False

    @classmethod
    def new(cls, directory: Path, first: int) -> "SpoolFile":
        """One that begins with that key, and is yet to be made."""
        name = SpoolFileName.new(first)
        return cls(directory / str(name), name, 0, None, first)

    def waiting(self, end: int) -> int:
        """How many of its bundles wait. end: the key after the spool's last."""
        return max(0, (end if self.end is None else self.end) - self.low - len(self.gone))

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes they have, when it was opened."""
        return max(0, self.size - self.passed_bytes)

    def holds(self, key: int, end: int) -> bool:
        """Whether that bundle is one of its own, and waits."""
        return self.low <= key < (end if self.end is None else self.end) and key not in self.gone

    def forget(self, key: int, end: int) -> bool:
        """Take that bundle as removed; whether it had been waiting."""
        if not self.holds(key, end):
            return False
        self.gone.add(key)
        while self.low in self.gone:
            self.gone.remove(self.low)
            self.low += 1
        return True

    def start_at(self, low: int) -> None:
        """On opening: all below that key is removed. Raises OSError if it can't be opened."""
        reader = SpoolFileReader(self.path, self.name)  # each is: a file of another user is said at once
        try:
            if low > self.name.first:
                self.low = min(low, self.end or 0)
                while self.low != self.end and (place := reader.find(self.low)):
                    self.passed_bytes = place.at + place.bytes
        finally:
            reader.close()

    def rename_with_end(self) -> None:
        """Say in its name where it ends. Raises OSError."""
        name = self.name._replace(end=self.end)
        self.path = self.path.rename(self.path.with_name(str(name)))
        self.name = name


class Cursor:
    """A place in the files, from which reading goes on: one file is open at a time."""

    def __init__(self, names: threading.Condition) -> None:
        self._names = names  # held by whoever renames a file
        self._after = -1
        self._least = 0
        self._file: SpoolFile | None = None
        self._reader: SpoolFileReader | None = None

    def least(self, after: int) -> int:
        """The least key that `read` may still give."""
        return self._least if after == self._after else after + 1

    def read(
        self, files: list[SpoolFile], after: int, end: int
    ) -> tuple[tuple[int, bytes] | None, list[tuple[SpoolFile, int, int]]]:
        """The next bundle beyond key `after` that waits: its key and value; None if there is none yet.

        files: in order. end: the key after the spool's last. And the keys passed over on the way, for they can't be
        read: file, first, and the one beyond.
        """
        damaged: list[tuple[SpoolFile, int, int]] = []
        if after != self._after:
            self.close()
            self._after, self._least = after, after + 1
        while self._least < end:
            if self._file is None and not self._open(files, end, damaged):
                break
            assert self._file
            beyond = end if self._file.end is None else self._file.end
            place = self._reader.find(beyond) if self._reader else None
            upto = place.key if place else beyond
            if upto > self._least:
                _note(damaged, self._file, self._least, upto)
                self._least = upto
            if place is None:
                if self._file.end is not None:
                    self.close()
                continue
            if place.key < self._least:
                continue
            self._least = place.key + 1
            if not self._file.holds(place.key, end):
                continue
            assert self._reader
            value = self._reader.value(place)
            if value is None:
                _note(damaged, self._file, place.key, place.key + 1)
                continue
            self._after = place.key
            return (place.key, value), damaged
        return None, damaged

    def close(self) -> None:
        """Close the file that is open."""
        if self._reader:
            self._reader.close()
        self._file = self._reader = None

    def _open(self, files: list[SpoolFile], end: int, damaged: list[tuple[SpoolFile, int, int]]) -> bool:
        for file in files:
            beyond = end if file.end is None else file.end
            if beyond > self._least:
                # Bundles between two files are in a file that was removed, when all of them were.
                self._file, self._least = file, max(self._least, file.name.first)
                try:
                    with self._names:
                        self._reader = SpoolFileReader(file.path, file.name)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                        self._file = None
                        return False  # it isn't the file's fault: to be tried again
                    _note(damaged, file, self._least, beyond)
                    self._least = beyond
                    self._file = None
                    continue
                return True
        return False


def _note(damaged: list[tuple[SpoolFile, int, int]], file: SpoolFile, first: int, beyond: int) -> None:
    if damaged and damaged[-1][0] is file and damaged[-1][2] == first:
        first = damaged.pop()[1]
    damaged.append((file, first, beyond))


def find_files(directory: Path) -> list[SpoolFile]:
    """The files of the spool there, in order; whatever else lies there is left alone. Raises OSError."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if name := SpoolFileName.parse(entry.name):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(SpoolFile(Path(entry.path), name, size, name.end, name.first))
    return sorted(found, key=lambda file: file.name.first)


def open_state(root: Path, directory: Path) -> tuple[StateFile, SpoolState | None]:
    """What the spool there remembers, None if it is new or that is damaged: then it is told, and set aside.

    directory: of its files. Raises OSError.
    """
    path = root / "state"
    new = not any(find_files(directory)) and _never_written(path)
    file = state = None
    with contextlib.suppress(IsADirectoryError):
        file = StateFile(path)
        state = file.read()
    if not new and state is None:
        log.error("the spool's %s is damaged; set aside: %s", path, set_aside(path, root))
        if file:
            file.close()
        file = None
    return file or StateFile(path), state


def _never_written(path: Path) -> bool:
    """Whether there is no such file, or one that a killed ingest had just made."""
    try:
        return os.lstat(path).st_size == 0
    except FileNotFoundError:
        return True


def open_files(directory: Path, state: SpoolState | None) -> list[SpoolFile]:
    """The files of the spool there, in order, with where each ends, and what of each waits. Raises OSError."""
    files = find_files(directory)
    for n, file in enumerate(files):
        if file.end is None:
            # The last one, as a rule: it was written to when ingest was killed.
            file.end = files[n + 1].name.first if n + 1 < len(files) else _end_of_last(file, state)
            with contextlib.suppress(OSError):
                file.rename_with_end()  # a later start can't tell it any more
        file.start_at(state.low if state else 0)
    if state and state.low < state.next and not files:
        log.error(
            "%d bundles are missing in the spool in %s; their records are lost", state.next - state.low, directory
        )
    return files


def _end_of_last(file: SpoolFile, state: SpoolState | None) -> int:
    """The key after the last bundle of an append that was written whole; or, if it is later, what the state says.

    What follows its bundles, from before the file was written over, doesn't count in its size any more; nor does it
    make an append whole that was cut by a kill: the file's length says nothing, only the CRCs do.
    """
    known = state.next if state else 0
    end = max(file.name.first, known)
    file.size = 0
    whole = True
    reader = SpoolFileReader(file.path, file.name)
    try:
        for place in reader.places():
            file.size = place.at + place.bytes
            whole = whole and (place.key < known or reader.value(place) is not None)
            if not place.more:
                if whole:
                    end = max(end, place.key + 1)
                whole = True
    finally:
        reader.close()
    return end


def last_record(files: list[SpoolFile], least: int) -> tuple[str, int] | None:
    """Epoch and seq of the last record with a bundle's key from `least` on; None if there is none to be read."""
    for file in reversed(files):
        last = None
        reader = SpoolFileReader(file.path, file.name)
        try:
            for place in reader.places():
                if least <= place.key < (file.end or 0) and (value := reader.value(place)):
                    for record in records(value):
                        if not record.rejected:
                            label = Label.from_headers((name, text.encode()) for name, text in record.headers)
                            last = (label.epoch, label.seq)
        finally:
            reader.close()
        if last:
            return last
    return None


def set_aside(path: Path, root: Path) -> Path:
    """Move it out of the spool's way; gives where it lies now. Nobody deletes it but the operator. Raises OSError."""
    aside = root / "damaged"
    try:
        aside.mkdir(exist_ok=True)
    except OSError:  # the disk is full; under its new name it isn't one of the spool's files any more
        aside = path.parent
    return path.rename(aside / f"{path.name}.{secrets.token_hex(4)}")
