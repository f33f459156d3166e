"""Records that came together, as one value for the spool: fewer, larger writes; large records in chunks."""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingest.reception import Entry
from ingest.topic import CHUNK_BYTES, Label, headers_spelled

_PREFIX = struct.Struct("<BQHI")  # rejected, time in ms, lengths of the headers and of the value that follow


class Spooled(NamedTuple):
    """A record, or a chunk of one, as it lies in the spool. time: ms since the epoch."""

    rejected: bool
    time: int
    headers: list[tuple[str, str]]
    value: bytes


class Bundle(NamedTuple):
    """Records that came together, kept and removed together. key: their place in the spool."""

    key: int
    records: list[Spooled]


def bundled(entries: Iterable[Entry]) -> Iterator[bytes]:
    """These entries as bundles of about CHUNK_BYTES at most: large records in chunks, small ones together."""
    parts: list[bytes | bytearray | memoryview] = []
    size = 0
    for entry in entries:
        for label, value in _chunks(entry):
            if parts and size + len(value) > CHUNK_BYTES:
                yield b"".join(parts)
                parts, size = [], 0
            said = label.spelled()
            parts += (_PREFIX.pack(entry.rejected, entry.time, len(said), len(value)), said, value)
            size += len(value)
    if parts:
        yield b"".join(parts)


def records(bundle: bytes) -> Iterator[Spooled]:
    """What `bundled` put into one bundle."""
    at = 0
    while at < len(bundle):
        rejected, time, said, length = _PREFIX.unpack_from(bundle, at)
        at += _PREFIX.size
        headers = headers_spelled(bundle[at : at + said])
        at += said + length
        yield Spooled(bool(rejected), time, headers, bundle[at - length : at])


def _chunks(entry: Entry) -> list[tuple[Label, bytes | bytearray | memoryview]]:
    if len(entry.value) <= CHUNK_BYTES:
        return [(entry.label, entry.value)]
    count = -(-len(entry.value) // CHUNK_BYTES)
    each = -(-len(entry.value) // count)
    view = memoryview(entry.value)
    return [(entry.label._replace(chunk=(k + 1, count)), view[k * each : (k + 1) * each]) for k in range(count)]
