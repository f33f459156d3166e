"""Records that came together, as one value for the spool: fewer, larger writes; large records in chunks."""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from g3stream.contract.headers import CHUNK_BYTES, Label, read_spelled, spelled
from ingest.receive.record_builder import Entry

_JOIN_BYTES = 4096
"""Pieces shorter than that, on average, take less time to copy together than to be written each."""
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


def bundled(entries: Iterable[Entry]) -> Iterator[tuple[list[bytes], list[Spooled]]]:
    """These entries as bundles of about CHUNK_BYTES at most: large records in chunks, small ones together.

    Each as it is to be spooled, in pieces, and as `records` would give it back.
    """
    parts: list[bytes] = []
    spooled: list[Spooled] = []
    size = 0
    for entry in entries:
        for label, value in _chunks(entry):
            if parts and size + len(value) > CHUNK_BYTES:
                yield _few(parts), spooled
                parts, spooled, size = [], [], 0
            headers = label.spelled()
            said = spelled(headers)
            parts += (_PREFIX.pack(entry.rejected, entry.time, len(said), len(value)) + said, value)
            spooled.append(Spooled(entry.rejected, entry.time, headers, value))
            size += len(value)
    if parts:
        yield _few(parts), spooled


def _few(parts: list[bytes]) -> list[bytes]:
    return [b"".join(parts)] if sum(map(len, parts)) < _JOIN_BYTES * len(parts) else parts


def records(bundle: bytes) -> Iterator[Spooled]:
    """What `bundled` put into one bundle."""
    at = 0
    while at < len(bundle):
        rejected, time, said, length = _PREFIX.unpack_from(bundle, at)
        at += _PREFIX.size
        headers = read_spelled(bundle[at : at + said])
        at += said + length
        yield Spooled(bool(rejected), time, headers, bundle[at - length : at])


def _chunks(entry: Entry) -> Iterator[tuple[Label, bytes]]:
    if len(entry.value) <= CHUNK_BYTES:
        yield entry.label, bytes(entry.value)
        return
    count = -(-len(entry.value) // CHUNK_BYTES)
    each = -(-len(entry.value) // count)
    for k in range(count):
        yield entry.label._replace(chunk=(k + 1, count)), bytes(entry.value[k * each : (k + 1) * each])
