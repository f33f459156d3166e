"""The spool's ledger: its first and last key and its last record, in a small file that is overwritten in place."""

import logging
import os
import struct
from pathlib import Path
from typing import NamedTuple

import google_crc32c

log = logging.getLogger(__name__)

_MAGIC = b"g3spool1"
_LEDGER = struct.Struct(">8sQQ?36s16sq")  # magic, then as Ledger; an empty epoch: no last record
_CRC = struct.Struct(">I")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Ledger(NamedTuple):
    """The persistent state of a spool."""

    first_unacked: int
    """The key of the first batch that Kafka has not acknowledged."""
    next_key: int
    """The key of the next batch to be appended."""
    clean_shutdown: bool
    """Whether ingest closed the spool itself."""
    boot_id: bytes
    """Identifies the boot of the host in which ingest ran; see `boot_id`."""
    last_record: tuple[str, int] | None
    """Producer epoch and seq of the last record ever appended. The ledger keeps it after the record itself has been
    acknowledged: the first record of the next epoch refers to it (header `prev`)."""

    def packed(self) -> bytes:
        """Encode it. The length is constant and less than a sector, so it is never half written."""
        epoch, seq = self.last_record or ("", 0)
        packed = _LEDGER.pack(
            _MAGIC, self.first_unacked, self.next_key, self.clean_shutdown, self.boot_id, epoch.encode(), seq
        )
        return packed + _CRC.pack(google_crc32c.value(packed))


class LedgerFile:
    """The file of the ledger, created if it is missing. Raises OSError.

    It is overwritten in place, which also works on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def read(self) -> Ledger | None:
        """Read the ledger. Returns None if the file is empty or damaged."""
        try:
            data = os.pread(self._fd, 4096, 0)
        except OSError:  # a bad sector
            return None
        packed = data[: _LEDGER.size]
        if len(data) != _LEDGER.size + _CRC.size or _CRC.unpack_from(data, _LEDGER.size)[0] != google_crc32c.value(
            packed
        ):
            return None
        magic, first_unacked, next_key, clean_shutdown, boot_id, epoch, seq = _LEDGER.unpack(packed)
        if magic != _MAGIC:
            return None
        return Ledger(
            first_unacked,
            next_key,
            clean_shutdown,
            boot_id,
            (epoch.decode("ascii"), seq) if epoch.strip(b"\0") else None,
        )

    def write(self, ledger: Ledger) -> None:
        """Replace the content of the file."""
        os.pwrite(self._fd, ledger.packed(), 0)

    def sync(self) -> None:
        """Make it durable."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def boot_id() -> bytes:
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
