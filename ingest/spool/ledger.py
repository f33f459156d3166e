"""What the spool remembers beside its files: where it begins and ends, and the last record ever put into it."""

import logging
import os
import struct
from pathlib import Path
from typing import NamedTuple

import google_crc32c

log = logging.getLogger(__name__)

_MAGIC = b"g3spool1"
_LEDGER = struct.Struct(">8sQQ?36s16sq")  # magic, then as Ledger; an empty epoch: none
_CRC = struct.Struct(">I")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Ledger(NamedTuple):
    """first_unacked: the key of the first bundle that waits. next_key: that of the next one to come.

    clean_shutdown: ingest exited as it should. boot_id: the start of the host that it ran in. last_record: the epoch
    and seq of the last record. It outlives that record: the next epoch names it as its predecessor's.
    """

    first_unacked: int
    next_key: int
    clean_shutdown: bool
    boot_id: bytes
    last_record: tuple[str, int] | None

    def packed(self) -> bytes:
        """As it lies in its file. A constant length, below a sector's: it is never half written."""
        epoch, seq = self.last_record or ("", 0)
        packed = _LEDGER.pack(
            _MAGIC, self.first_unacked, self.next_key, self.clean_shutdown, self.boot_id, epoch.encode(), seq
        )
        return packed + _CRC.pack(google_crc32c.value(packed))


class LedgerFile:
    """The file that it lies in, made if need be, written over in place: on a full disk, too. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)

    def read(self) -> Ledger | None:
        """None if it is empty, or not what was written."""
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
        """Replace what is there."""
        os.pwrite(self._fd, ledger.packed(), 0)

    def sync(self) -> None:
        """Return when it is on disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


def boot_id() -> bytes:
    """Another one after each start of the host, 36 bytes; none where that can't be known.

    So it is without /proc/sys (systemd's ProcSubset=pid, some sandboxes). Then ingest records all the same, and after
    an unclean exit the host may have been restarted.
    """
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError as error:
        log.warning(
            "whether this host is restarted can't be seen (%s): after each kill of ingest, the archiver will report "
            "that records of its last second may be lost",
            error,
        )
        return b""
