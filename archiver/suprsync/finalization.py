"""Reads from Kafka up to which time an archive is final (finalized_until.py).

The commits of the archive's group have, for every stream and whichever archiver records it, the open file and the
records that wait.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from archiver.core.checkpoint import Checkpoint, decode
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.kafka.topic_tail import TailRecord, open_tails
from archiver.suprsync.finalized_until import FinalizedUntil, StreamProgress, directory_of, finalized_until
from g3stream.contract.headers import Kind


def read(
    config: Mapping[str, Any], group: str, streams: Collection[str] | None, now_ms: int
) -> tuple[FinalizedUntil, int]:
    """Return up to when the archive is final, and up to which offset of g3.files events must be handed over first.

    now_ms: the time before the call. Raises KafkaException, CheckpointError.
    """
    reader = TopicReader(config, group)
    with open_tails(reader) as tails:
        topics = list(tails.streams())
        # In this order: later commits only move the time forward.
        commits = reader.committed(topics)
        wanted = [stream for stream in topics if stream in commits or streams is None or stream in streams]
        spans = tails.offset_ranges(wanted)
        checkpoints = {s: decode(c.metadata, s) for s, c in commits.items() if s in spans and c.metadata}
        next_offsets = {s: _next_offset(span, commits.get(s)) for s, span in spans.items()}
        next_ones = tails.read({s: (at, at + 1) for s, at in next_offsets.items() if at < spans[s][1]})
        # The last record matters only for streams with no open file and no waiting record.
        idle = {s: spans[s] for s in spans if not next_ones.get(s) and not _is_open(checkpoints.get(s))}
        last_ones = tails.read_back(idle, lambda _, found: bool(found))
    progress = [_progress(s, checkpoints.get(s), next_ones.get(s), last_ones.get(s)) for s in wanted]
    # A file's event is published before the commit in which it is no longer open.
    _, files_end = reader.files_offset_range()
    return finalized_until(now_ms, progress), files_end


def _next_offset(span: tuple[int, int], commit: OffsetAndMetadata | None) -> int:
    """Return the offset of the first record that isn't archived.

    The topic may have been created again, or have had records deleted.
    """
    first, end = span
    return first if commit is None or commit.offset > end else max(first, commit.offset)


def _is_open(checkpoint: Checkpoint | None) -> bool:
    return checkpoint is not None and checkpoint.partial is not None


def _progress(
    stream: str,
    checkpoint: Checkpoint | None,
    next_ones: Sequence[TailRecord] | None,
    last_ones: Sequence[TailRecord] | None,
) -> StreamProgress:
    last = last_ones[-1] if last_ones else None
    return StreamProgress(
        stream,
        open_since_ms=checkpoint.partial.first.time if checkpoint and checkpoint.partial else None,
        waiting_since_ms=next_ones[0].time_ms if next_ones else None,
        last_ms=last.time_ms if last else None,
        is_connected=bool(last and not (last.headers and last.headers.kind is Kind.LOST)),
        directory=directory_of(checkpoint) if checkpoint else None,
    )
