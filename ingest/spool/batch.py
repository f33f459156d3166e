"""Batches: records that arrived together, encoded as one value of the spool, large records in chunks.

Batching makes fewer and larger writes.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from g3stream.contract.headers import CHUNK_BYTES, RecordHeaders, decode_headers, encode_headers
from ingest.receive.record_builder import PendingRecord

_JOIN_BYTES = 4096
"""Pieces whose mean length is below this are faster to join than to write one by one."""
_PREFIX = struct.Struct("<BQHI")  # rejected, time in ms, lengths of the headers and of the value that follow


class SpooledRecord(NamedTuple):
    """A record, or one chunk of a large record, as stored in the spool."""

    rejected: bool
    """Whether it is for the topic of rejected frames."""
    time_ms: int
    """When it was received, ms since the epoch, UTC."""
    headers: list[tuple[str, str]]
    value: bytes


class Batch(NamedTuple):
    """Records that are stored together and acknowledged together."""

    key: int
    """The batch's number in the spool, counted from 0 since the spool was made."""
    records: list[SpooledRecord]


def make_batches(pending: Iterable[PendingRecord]) -> Iterator[tuple[list[bytes], list[SpooledRecord]]]:
    """Group records into batches of about CHUNK_BYTES at most: large records in chunks, small ones together.

    Yields each batch twice: encoded, as a list of pieces to write, and as `decode_batch` would return it.
    """
    parts: list[bytes] = []
    batch: list[SpooledRecord] = []
    size = 0
    for record in pending:
        for headers, value in _chunks(record):
            if parts and size + len(value) > CHUNK_BYTES:
                yield _join_if_small(parts), batch
                parts, batch, size = [], [], 0
            header_texts = headers.to_text()
            header_block = encode_headers(header_texts)
            parts += (
                _PREFIX.pack(record.rejected, record.time_ms, len(header_block), len(value)) + header_block,
                value,
            )
            batch.append(SpooledRecord(record.rejected, record.time_ms, header_texts, value))
            size += len(value)
    if parts:
        yield _join_if_small(parts), batch


def _join_if_small(parts: list[bytes]) -> list[bytes]:
    return [b"".join(parts)] if sum(map(len, parts)) < _JOIN_BYTES * len(parts) else parts


def decode_batch(batch: bytes) -> Iterator[SpooledRecord]:
    """Decode the records of one batch that `make_batches` encoded."""
    at = 0
    while at < len(batch):
        rejected, time, header_bytes, length = _PREFIX.unpack_from(batch, at)
        at += _PREFIX.size
        headers = decode_headers(batch[at : at + header_bytes])
        at += header_bytes + length
        yield SpooledRecord(bool(rejected), time, headers, batch[at - length : at])


def _chunks(record: PendingRecord) -> Iterator[tuple[RecordHeaders, bytes]]:
    if len(record.value) <= CHUNK_BYTES:
        yield record.headers, bytes(record.value)
        return
    count = -(-len(record.value) // CHUNK_BYTES)
    each = -(-len(record.value) // count)
    for k in range(count):
        yield record.headers._replace(chunk=(k + 1, count)), bytes(record.value[k * each : (k + 1) * each])
