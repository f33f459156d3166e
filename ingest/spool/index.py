"""The data files in the spool's directory, and which of their batches Kafka has not acknowledged yet."""

import contextlib
import logging
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from g3stream.contract.headers import RecordHeaders
from ingest.spool.batch import decode_batch
from ingest.spool.data_file import SpoolFileName, SpoolFileReader
from ingest.spool.ledger import Ledger, LedgerFile

log = logging.getLogger(__name__)


@dataclass(slots=True)
class SpoolFile:
    """A data file of the spool, and which of its batches are acknowledged."""

    path: Path
    name: SpoolFileName
    size_bytes: int
    end_key: int | None
    """The key after its last batch; None while it is being written."""
    first_unacked: int
    """All its batches with a lower key are acknowledged."""
    acked: set[int] = field(default_factory=set)
    """Keys of further batches that are acknowledged."""
    acked_bytes: int = 0
    """Bytes at its beginning that were acknowledged when the spool was opened."""
    damaged: bool = False
    """Whether some of its batches can't be read."""
    disposed: bool = False
    """Whether it was removed from the spool."""

    @classmethod
    def new(cls, directory: Path, first_key: int) -> "SpoolFile":
        """Describe a file that does not exist yet, and begins with that key."""
        name = SpoolFileName.new(first_key)
        return cls(directory / str(name), name, 0, None, first_key)

    def unacked_batches(self, end_key: int) -> int:
        """Count its batches that aren't acknowledged. end_key: the key after the spool's last batch."""
        return max(0, (end_key if self.end_key is None else self.end_key) - self.first_unacked - len(self.acked))

    @property
    def unacked_bytes(self) -> int:
        """Size of the batches that weren't acknowledged when the spool was opened, estimated."""
        return max(0, self.size_bytes - self.acked_bytes)

    def has_unacked(self, key: int, end_key: int) -> bool:
        """Whether it contains that batch, and the batch isn't acknowledged. end_key: as for `unacked_batches`."""
        return (
            self.first_unacked <= key < (end_key if self.end_key is None else self.end_key) and key not in self.acked
        )

    def acknowledge(self, key: int, end_key: int) -> bool:
        """Mark that batch as acknowledged. Returns False if it already was, or isn't in this file."""
        if not self.has_unacked(key, end_key):
            return False
        self.acked.add(key)
        while self.first_unacked in self.acked:
            self.acked.remove(self.first_unacked)
            self.first_unacked += 1
        return True

    def skip_acknowledged(self, first_unacked: int) -> None:
        """When the spool is opened: mark all batches below that key as acknowledged. Raises OSError."""
        reader = SpoolFileReader(self.path, self.name)  # always, so that a file of another user is reported at once
        try:
            if first_unacked > self.name.first_key:
                self.first_unacked = min(first_unacked, self.end_key or 0)
                while self.first_unacked != self.end_key and (location := reader.next_location(self.first_unacked)):
                    self.acked_bytes = location.offset + location.size_bytes
        finally:
            reader.close()

    def rename_with_end(self) -> None:
        """Rename the file, so that its name contains its end. Raises OSError."""
        name = self.name._replace(end_key=self.end_key)
        self.path = self.path.rename(self.path.with_name(str(name)))
        self.name = name


def find_files(directory: Path) -> list[SpoolFile]:
    """List the data files in that directory, in order; other files are ignored. Raises OSError."""
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if name := SpoolFileName.parse(entry.name):
                size = entry.stat(follow_symlinks=False).st_size
                found.append(SpoolFile(Path(entry.path), name, size, name.end_key, name.first_key))
    return sorted(found, key=lambda file: file.name.first_key)


def open_ledger(root: Path, directory: Path) -> tuple[LedgerFile, Ledger | None]:
    """Open the ledger of the spool in `root`. Returns its file and its content.

    The content is None if the spool is new, or if the ledger is damaged; a damaged ledger is logged and moved away.
    directory: of the data files. Raises OSError.
    """
    path = root / "state"
    new = not any(find_files(directory)) and _never_written(path)
    file = ledger = None
    with contextlib.suppress(IsADirectoryError):
        file = LedgerFile(path)
        ledger = file.read()
    if not new and ledger is None:
        log.error("the spool's ledger %s is damaged; moved to %s", path, quarantine(path, root))
        if file:
            file.close()
        file = None
    return file or LedgerFile(path), ledger


def _never_written(path: Path) -> bool:
    """Whether the file doesn't exist, or is empty because ingest was killed right after it had created it."""
    try:
        return os.lstat(path).st_size == 0
    except FileNotFoundError:
        return True


def recover_files(directory: Path, ledger: Ledger | None) -> list[SpoolFile]:
    """List the data files in order, with the end of each and its acknowledged batches restored. Raises OSError."""
    files = find_files(directory)
    for n, file in enumerate(files):
        if file.end_key is None:
            # Usually the last one: it was being written when ingest was killed.
            file.end_key = files[n + 1].name.first_key if n + 1 < len(files) else _recover_end_key(file, ledger)
            with contextlib.suppress(OSError):
                file.rename_with_end()  # a later start could no longer find out
        file.skip_acknowledged(ledger.first_unacked if ledger else 0)
    if ledger and ledger.first_unacked < ledger.next_key and not files:
        log.error(
            "%d batches are missing in the spool in %s; their records are lost",
            ledger.next_key - ledger.first_unacked,
            directory,
        )
    return files


def _recover_end_key(file: SpoolFile, ledger: Ledger | None) -> int:
    """Find the key after the last batch of the last complete append; at least the ledger's `next_key`.

    Sets the file's size. A recycled file may contain old data after its last batch, so the file's length proves
    nothing; only the CRCs do. The old data doesn't count in the size, nor does it complete an append that was cut
    short by a kill.
    """
    known_key = ledger.next_key if ledger else 0
    end_key = max(file.name.first_key, known_key)
    file.size_bytes = 0
    append_intact = True
    reader = SpoolFileReader(file.path, file.name)
    try:
        for location in reader.locations():
            file.size_bytes = location.offset + location.size_bytes
            append_intact = append_intact and (location.key < known_key or reader.value(location) is not None)
            if not location.append_continues:
                if append_intact:
                    end_key = max(end_key, location.key + 1)
                append_intact = True
    finally:
        reader.close()
    return end_key


def find_last_record(files: list[SpoolFile], first_key: int) -> tuple[str, int] | None:
    """Find producer epoch and seq of the last record in the batches from `first_key` on; None if none is readable."""
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
    """Move a damaged file out of the spool. Returns its new path. Raises OSError.

    It is kept for the operator; ingest never deletes it.
    """
    quarantine_dir = root / "damaged"
    try:
        quarantine_dir.mkdir(exist_ok=True)
    except OSError:  # the disk is full; its new name alone takes it out of the spool
        quarantine_dir = path.parent
    return path.rename(quarantine_dir / f"{path.name}.{secrets.token_hex(4)}")
