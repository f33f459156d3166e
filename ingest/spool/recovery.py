"""Recovery: what a start finds in the spool's directory, and how it repairs what a kill or damage left.

See this package's docstring.
"""

import contextlib
import logging
import secrets
from pathlib import Path

from g3stream.contract.headers import RecordHeaders
from ingest.spool.batch import decode_batch
from ingest.spool.data_file import BatchScanner, add_end_to_name, parse_file_name
from ingest.spool.ledger import DataFile, FileState, LedgerState

log = logging.getLogger(__name__)

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def recover(root: Path, directory: Path) -> tuple[list[DataFile], LedgerState, bool]:
    """Recover the spool in `root` as an earlier ingest left it. directory: of its data files. Raises OSError.

    Returns the data files in order, all complete; the ledger, with this boot's id; and whether the host has been
    rebooted since, and that ingest had not closed the spool. Damage is logged. A damaged ledger is quarantined, and
    replaced by what the data files contain.
    """
    names = [(name, path) for path in directory.iterdir() if (name := parse_file_name(path.name))]
    names.sort(key=lambda found: found[0][0])
    saved = _read_ledger(root / "state", root, has_files=bool(names))
    ledger = saved or LedgerState(0, 0, clean_shutdown=False, boot_id=b"unknown", last_record=None)
    files = []
    for n, ((first_key, end_key, marker), path) in enumerate(names):
        size_bytes = path.lstat().st_size
        with contextlib.closing(BatchScanner(path, marker)) as scanner:  # so that one that can't be read is reported
            if end_key is None:  # as a rule only in the last name: that file was being written
                if n + 1 < len(names):
                    end_key = names[n + 1][0][0]
                else:
                    end_key, size_bytes = _find_end(scanner, max(first_key, ledger.next_key), ledger.next_key)
                path = add_end_to_name(path, first_key, end_key, marker)  # a later start could no longer find it out
        first_unacked = min(max(ledger.first_unacked, first_key), end_key)
        files.append(DataFile(path, marker, first_key, end_key, first_unacked, size_bytes, FileState.COMPLETE))
    if ledger.first_unacked < ledger.next_key and not files:
        missing = ledger.next_key - ledger.first_unacked
        text = "%d batches are missing in the spool in %s; their records are lost, as the archiver will report"
        log.error(text, missing, directory)
    next_key = max([ledger.next_key, *(file.end_key for file in files)])
    last_record = ledger.last_record
    if next_key > ledger.next_key:  # killed between a write of data and that of the ledger
        last_record = _find_last_record(files, ledger.next_key) or last_record
    boot_id = _read_boot_id()
    unclean = bool(ledger.last_record if saved else files) and not ledger.clean_shutdown and ledger.boot_id != boot_id
    return files, LedgerState(ledger.first_unacked, next_key, False, boot_id, last_record), unclean


def quarantine(path: Path, root: Path) -> Path:
    """Move a damaged file out of the spool in `root`. Returns its new path. Raises OSError.

    It is kept for the operator; ingest never deletes it.
    """
    quarantine_dir = root / "damaged"
    try:
        quarantine_dir.mkdir(exist_ok=True)
    except OSError:  # the disk is full; its new name alone takes it out of the spool
        quarantine_dir = path.parent
    return path.rename(quarantine_dir / f"{path.name}.{secrets.token_hex(4)}")


def _read_ledger(path: Path, root: Path, *, has_files: bool) -> LedgerState | None:
    """Read the ledger. Returns None if the spool is new, or the ledger is damaged. has_files: whether data exists."""
    path.touch(0o644)  # raises if it is another user's
    try:
        data = path.read_bytes()
    except OSError:  # a bad sector, or a directory
        data = b"unreadable"
    if not (data or has_files):
        return None  # a new spool, or ingest was killed right after it had created the file
    state = LedgerState.unpacked(data)
    if state is None:
        text = "the spool's ledger %s is damaged; moved to %s, and the spool's files are read instead"
        log.error(text, path, quarantine(path, root))
    return state


def _find_end(scanner: BatchScanner, end_key: int, known_key: int) -> tuple[int, int]:
    """Find the key after the last batch of the last complete append, at least `end_key`; and the size up to there.

    known_key: the ledger's next key; what is before it was written completely. A recycled file may contain old data
    after its last batch, so the file's length proves nothing; only the CRCs do. The old data doesn't count in the
    size, nor does it complete an append that was cut short by a kill.
    """
    size_bytes = 0
    append_intact = True
    for location in scanner.locations():
        size_bytes = location.end_offset
        append_intact = append_intact and (location.key < known_key or scanner.value(location) is not None)
        if not location.append_continues:
            if append_intact:
                end_key = max(end_key, location.key + 1)
            append_intact = True
    return end_key, size_bytes


def _find_last_record(files: list[DataFile], first_key: int) -> tuple[str, int] | None:
    """Find producer epoch and seq of the last record in the batches from `first_key` on; None if none is readable."""
    for file in reversed(files):
        last = None
        with contextlib.closing(BatchScanner(file.path, file.marker)) as scanner:
            for location in scanner.locations():
                if first_key <= location.key < file.end_key and (value := scanner.value(location)):
                    last = next((record for record in reversed([*decode_batch(value)]) if not record.rejected), last)
        if last:
            headers = RecordHeaders.from_kafka((name, text.encode()) for name, text in last.headers)
            return headers.epoch, headers.seq
    return None


def _read_boot_id() -> bytes:
    """Return the id of the host's current boot, 36 bytes; empty if it can't be read.

    It can't be read without /proc/sys (systemd's ProcSubset=pid, some sandboxes). ingest records all the same, but
    after each unclean shutdown it must assume that the host has been rebooted.
    """
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError as error:
        log.warning(
            "can't detect reboots of this host (%s): after each kill of ingest, the archiver will report that "
            "records of its last second may be lost",
            error,
        )
        return b""
