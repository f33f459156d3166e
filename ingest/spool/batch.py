"""Batches: records that arrived together, encoded as one value of the spool, large records in chunks.

Batching makes fewer and larger writes, of about 1 MB at most: for more, the kernel looks for larger pages, and may
have none.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from g3stream.contract.headers import CHUNK_BYTES, RecordHeaders, decode_headers, encode_headers
from ingest.receive.record_builder import PendingRecord

_JOIN_BYTES = 4096
"""Pieces whose mean length is below this are faster to join than to write one by one."""
_OVERHEAD_BYTES = 900  # memory of one record besides its value, headers included (measured)
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
    bytes: int = 0
    """Its size in the spool."""

    @property
    def memory_bytes(self) -> int:
        """Memory that it takes, estimated."""
        return self.bytes + _OVERHEAD_BYTES * len(self.records)


class EncodedBatch(NamedTuple):
    """A batch to be appended."""

    pieces: list[bytes]
    """Its encoded value, in pieces, so that large records need not be copied to join them."""
    records: list[SpooledRecord]
    """What `decode_batch` would return."""
    append_continues: bool
    """Whether another batch of the same append follows."""


def make_batches(pending: Iterable[PendingRecord]) -> Iterator[EncodedBatch]:
    """Group the records of one append into batches of about CHUNK_BYTES at most. Pure."""
    pieces: list[bytes] = []
    records: list[SpooledRecord] = []
    size = 0
    for record in pending:
        for headers, value in _chunks(record):
            if pieces and size + len(value) > CHUNK_BYTES:
                yield EncodedBatch(_join_if_small(pieces), records, append_continues=True)
                pieces, records, size = [], [], 0
            header_texts = headers.to_text()
            header_block = encode_headers(header_texts)
            prefix = _PREFIX.pack(record.rejected, record.time_ms, len(header_block), len(value))
            pieces += prefix + header_block, value
            records.append(SpooledRecord(record.rejected, record.time_ms, header_texts, value))
            size += len(value)
    if pieces:
        yield EncodedBatch(_join_if_small(pieces), records, append_continues=False)


def _join_if_small(pieces: list[bytes]) -> list[bytes]:
    return [b"".join(pieces)] if sum(map(len, pieces)) < _JOIN_BYTES * len(pieces) else pieces


def decode_batch(value: bytes) -> Iterator[SpooledRecord]:
    """Decode the records of one batch that `make_batches` encoded."""
    at = 0
    while at < len(value):
        rejected, time_ms, header_bytes, value_bytes = _PREFIX.unpack_from(value, at)
        at += _PREFIX.size
        headers = decode_headers(value[at : at + header_bytes])
        at += header_bytes + value_bytes
        yield SpooledRecord(bool(rejected), time_ms, headers, value[at - value_bytes : at])


def _chunks(record: PendingRecord) -> Iterable[tuple[RecordHeaders, bytes]]:
    if len(record.value) <= CHUNK_BYTES:
        return ((record.headers, bytes(record.value)),)
    count = -(-len(record.value) // CHUNK_BYTES)
    each = -(-len(record.value) // count)
    return (  # one at a time: each is a copy
        (record.headers._replace(chunk=(k + 1, count)), bytes(record.value[k * each : (k + 1) * each]))
        for k in range(count)
    )
