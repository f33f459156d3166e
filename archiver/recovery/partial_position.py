"""The offset at which a partial without a state ends, found by its last whole frame.

Frames in a file have no offset, so the topic is searched for the frame's bytes.
"""

import contextlib
from typing import NamedTuple

from archiver.core.sequence import SequenceTracker
from archiver.kafka.invalid_records import HeaderReader
from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.errors import ContractError
from g3stream.service.cancellation import CancellationToken


class TopicPosition(NamedTuple):
    """The position after a record."""

    offset: int
    """Of the next record."""
    epoch: str
    """The record's producer epoch."""
    seq: int
    """The record's number within its producer epoch."""


def position_after(
    reader: TopicReader, stream: str, frame: bytes, cancellation: CancellationToken
) -> TopicPosition | None:
    """Return the position after the first record of the topic with these bytes; None if it has none.

    Reads the topic up to there, which may take as long as recording it. Raises KafkaException, Cancelled.
    """
    seen, header_reader = SequenceTracker(), HeaderReader(reader, stream)
    with contextlib.suppress(ContractError):  # nothing is recorded after that either
        for batch in reader.batches(stream, *reader.offset_range(stream)):
            cancellation.raise_if_cancelled(f"looking for the end of a partial of {stream}")
            for message in batch:
                headers = header_reader.read(message)
                offset = message.offset() or 0
                record = headers and seen.assemble(headers, 0, message.value() or b"", offset)
                if record and record.bytes == len(frame) and b"".join(record.value) == frame:
                    return TopicPosition(offset + 1, record.headers.epoch, record.headers.seq)
    return None
