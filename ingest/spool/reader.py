"""Sequential reading of the spool across its data files."""

import errno
import threading

from ingest.spool.data_file import SpoolFileReader
from ingest.spool.index import SpoolFile


class Cursor:
    """A read position in the spool; one data file is open at a time.

    rename_lock: the caller must hold it to rename a data file.
    """

    def __init__(self, rename_lock: threading.Condition) -> None:
        self._rename_lock = rename_lock
        self._after_key = -1
        self._next_key = 0
        self._file: SpoolFile | None = None
        self._reader: SpoolFileReader | None = None

    def next_key(self, after_key: int) -> int:
        """The lowest key that `read` may still return."""
        return self._next_key if after_key == self._after_key else after_key + 1

    def read(
        self, files: list[SpoolFile], after_key: int, end_key: int
    ) -> tuple[tuple[int, bytes] | None, list[tuple[SpoolFile, int, int]]]:
        """Read the next batch after key `after_key` that isn't acknowledged.

        files: the data files, in order. end_key: the key after the spool's last batch. Returns the batch's key and
        value, or None if there is none yet; and the ranges of keys that were skipped as they can't be read: file,
        first key, key after the last.
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
                # Keys between two files belong to a file that was removed, as all its batches were acknowledged.
                self._file, self._next_key = file, max(self._next_key, file.name.first_key)
                try:
                    with self._rename_lock:
                        self._reader = SpoolFileReader(file.path, file.name)
                except OSError as error:
                    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                        self._file = None
                        return False  # not the file's fault: the next read tries again
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
