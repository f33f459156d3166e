"""The resume point of a stream: after its last commit, else after its last file, else the topic's first record.

The partials found there are handled, too: the open file is continued, rebuilt from the topic or, if the topic no
longer has its records, published as it is (salvage.py).
"""

import logging
from dataclasses import dataclass

from msgspec.structs import replace

from archiver.archive.identity import Identity
from archiver.archive.ownership import another_archive_error
from archiver.archive.root import ArchiveRoot
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint, CheckpointError, Partial
from archiver.core.events import FileSalvaged, RecordsLost
from archiver.core.paths import SUMS, NameFormat, PartialName, parse_path, start_and_number
from archiver.core.segmentation import Settings, State, after_close
from archiver.core.sequence import LossCause, SequenceTracker, forgotten_before, roll_back
from archiver.core.used_names import with_name_taken
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.recovery.partial_position import TopicPosition, last_complete_frame, position_after
from archiver.recovery.salvage import salvage
from archiver.segments.open_segment import OpenSegment
from archiver.segments.segment_file import PartialDamagedError
from archiver.storage.partials import unlocked_partials
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where recording of a stream continues."""

    checkpoint: Checkpoint
    offset: int | None
    """Of the next record to read; None for the topic's first."""
    file: OpenSegment | None = None
    """The open file, if any. None with `checkpoint.closing`: that file must be finished first."""
    has_prior_state: bool = True
    """Whether a state was committed, or is in an event."""
    settings: Settings | None = None
    """The settings that the next acquisition had, if its first file is rebuilt."""


def find_resume_point(
    archive: ArchiveRoot, consumer: GroupConsumer, committed: CommittedOffset, cancellation: CancellationToken
) -> ResumePoint:
    """Find the resume point from the commit or the events, and handle the stream's partials. May take minutes.

    Raises CheckpointError if the state in Kafka can't be read, AnotherArchiveError if it is another archive's,
    OSError, KafkaException, Cancelled.
    """
    start = _handle_orphans(
        archive,
        consumer,
        _check_archive(archive, _from_commit_or_events(consumer, committed, cancellation)),
        cancellation,
    )
    checkpoint = start.checkpoint
    if checkpoint.partial is None or checkpoint.closing:
        return start
    try:
        with archive.private(committed.stream) as private:
            file = OpenSegment.reopen(private, checkpoint.partial, checkpoint.epochs, cancellation, md5=archive.md5)
    except PartialDamagedError as error:
        return rebuild_file(archive, consumer, checkpoint, start.offset, str(error), cancellation)
    log.info("%s: continuing %s at %.1f MB", committed.stream, file.path, file.file.length_bytes / 1e6)
    return ResumePoint(checkpoint, start.offset, file)


def rebuild_file(
    archive: ArchiveRoot,
    consumer: GroupConsumer,
    checkpoint: Checkpoint,
    offset: int | None,
    why: str,
    cancellation: CancellationToken,
) -> ResumePoint:
    """Return a resume point that rebuilds the checkpoint's open file, whose partial isn't what was committed.

    If the topic no longer has its records, the partial is salvaged and the rest reported as lost. May take minutes.
    offset: the checkpoint's. Raises OSError, KafkaException, Cancelled.
    """
    stream, partial = checkpoint.state.stream, checkpoint.partial
    assert partial
    assert checkpoint.state.acquisition
    first, _ = consumer.topic_reader.offset_range(stream)
    if first <= partial.base.offset:
        log.error("%s: %s must be rebuilt from the topic: %s", stream, partial.path, why)
        archive.discard(stream, partial.name)
        base = partial.base
        epochs = roll_back(checkpoint.epochs, base.epochs)
        forgotten = forgotten_before(epochs, checkpoint.forgotten)
        before = Checkpoint(base.state, epochs, checkpoint.files, base.carry, forgotten=forgotten)
        # With its own settings: with changed ones the file would end elsewhere, before what is committed.
        return ResumePoint(before, base.offset, settings=checkpoint.state.acquisition.settings)
    what = f"{partial.path}: {why}; the topic, which begins at offset {first} now, can't give it again"
    salvaged = salvage(archive, consumer.events.publish, stream, partial.name, what, cancellation)
    if salvaged is None and (salvaged := _earlier_salvage(consumer, stream, partial, cancellation)):
        what = salvaged.what  # so that a loss that was published with it keeps its key
    missing = partial.frames + len(partial.carry) - (salvaged.frames if salvaged else 0)
    last = partial.last
    loss = RecordsLost(
        archive.group,
        stream,
        max(0, missing),
        what,
        offset or 0,
        partial.first.time,
        last.time,
        archive.host,
        LossCause.DISK,
    )
    log.error("%s: LOST %d frames of %s", stream, missing, what)
    consumer.events.publish(loss)
    _, number = start_and_number(salvaged.path if salvaged else partial.path)
    after = replace(checkpoint, state=after_close(checkpoint.state, number), partial=None, closing=None)
    return ResumePoint(after, offset)


def _earlier_salvage(
    consumer: GroupConsumer, stream: str, partial: Partial, cancellation: CancellationToken
) -> FileSalvaged | None:
    """Return the event of that partial, if it was salvaged before, and a kill or Kafka prevented the commit.

    Finds only a partial that got its own name.
    """
    for event in consumer.topic_reader.events([stream]):
        cancellation.raise_if_cancelled(f"looking for the event of {partial.path}")
        if isinstance(event, FileSalvaged) and (event.stream, event.path) == (stream, partial.path):
            return event
    return None


def _from_commit_or_events(
    consumer: GroupConsumer, committed: CommittedOffset, cancellation: CancellationToken
) -> ResumePoint:
    stream, offset = committed.stream, committed.offset
    if offset is not None and committed.metadata:
        return ResumePoint(checkpoints.decode(committed.metadata, stream), offset)
    last = consumer.last_file_index.find(stream, cancellation)
    if isinstance(last, CheckpointError):
        raise last
    if last is not None:
        if consumer.topic_reader.has_record(stream, last.closing):
            log.error("%s: no state is committed; continuing after its last file, %s", stream, last.path)
            return ResumePoint(last.checkpoint, last.offset)
        log.error(
            "%s: no state is committed, and the topic no longer has the record that closed its last file, %s; "
            "continuing at the topic's first record",
            stream,
            last.path,
        )
        return ResumePoint(last.checkpoint, None)
    if offset is not None:
        log.error("%s: offset %d was committed without a state; starting there", stream, offset)
    return ResumePoint(Checkpoint(State(stream)), offset, has_prior_state=False)


def _check_archive(archive: ArchiveRoot, start: ResumePoint) -> ResumePoint:
    """Return the same, marked as this archive's. Raises AnotherArchiveError."""
    checkpoint = start.checkpoint
    if checkpoint.archive and archive.ids and checkpoint.archive.id not in archive.ids:
        raise another_archive_error(
            archive, Identity(archive.ids, archive.group), {checkpoint.state.stream: checkpoint.archive}
        )
    return ResumePoint(replace(checkpoint, archive=archive.mark), start.offset, has_prior_state=start.has_prior_state)


def _handle_orphans(
    archive: ArchiveRoot, consumer: GroupConsumer, start: ResumePoint, cancellation: CancellationToken
) -> ResumePoint:
    """Discard or salvage partials that the state doesn't name: begun just before a kill, or left of a lost state."""
    checkpoint = start.checkpoint
    stream = checkpoint.state.stream
    keep = {checkpoint.partial.name} if checkpoint.partial else set()
    with archive.private(stream) as private:
        for name in private.names():
            if name.startswith(f"{SUMS}.") and private.is_file(
                name
            ):  # left by a kill; anything else of that name isn't ours
                private.unlink(name)
        orphans = unlocked_partials(private, sorted(set(private.names()) - keep))
    if not orphans:
        return start
    if start.offset is not None and not start.has_prior_state:
        # The offset was set by hand or by a tool. Wherever it is, the partial shows that records were recorded whose
        # file isn't finished: start before them, or records in between would be skipped or recorded twice.
        log.error("%s: its partial shows that there was a state; continuing at the topic's first record", stream)
        start = ResumePoint(checkpoint, None, has_prior_state=False)
    names = checkpoint.state.names
    after: TopicPosition | None = None
    for name in orphans:
        orphan = PartialName.parse(name)
        assert orphan
        if (checkpoint.partial and checkpoint.partial.path == orphan.path) or _is_redelivered(
            consumer, start, orphan
        ):
            archive.discard(stream, name)
            log.info("%s: removed %s, begun just before a kill; its records are consumed again", stream, name)
            continue
        if start.offset is None:
            after = max(
                (after, _position_after_orphan(archive, consumer, start, orphan, name, cancellation)), key=_offset
            )
        why = "its state is lost, and the topic can't give it again"
        if salvaged := salvage(archive, consumer.events.publish, stream, name, why, cancellation):
            found_name = parse_path(salvaged.path)
            assert found_name
            in_digits = found_name.name_format is not NameFormat.DATE
            names = with_name_taken(names, found_name.start_s, found_name.number, in_digits=in_digits)
    checkpoint = replace(checkpoint, state=replace(checkpoint.state, names=names))
    if after is None:
        return ResumePoint(checkpoint, start.offset, has_prior_state=start.has_prior_state)
    log.info("%s: the topic has its last frame; continuing after it, at offset %d", stream, after.offset)
    seen = SequenceTracker(checkpoint.epochs, checkpoint.forgotten)
    seen.prepend([(after.epoch, after.seq)], ())
    checkpoint = replace(checkpoint, epochs=seen.epochs(), forgotten=seen.forgotten)
    return ResumePoint(checkpoint, after.offset)


def _position_after_orphan(
    archive: ArchiveRoot,
    consumer: GroupConsumer,
    start: ResumePoint,
    orphan: PartialName,
    name: str,
    cancellation: CancellationToken,
) -> TopicPosition | None:
    """Return the position after the partial's last frame; None if the topic no longer has it.

    Then, unless a state shows what is missing before the topic's first record, a loss is published.
    """
    stream = start.checkpoint.state.stream
    with archive.private(stream) as private:
        frame = last_complete_frame(private, name, cancellation) if private.is_file(name) else b""
    after = position_after(consumer.topic_reader, stream, frame, cancellation) if frame else None
    if after is None and not start.has_prior_state:
        first, _ = consumer.topic_reader.offset_range(stream)
        time = consumer.topic_reader.record_time_ms(stream)
        until = orphan.first_ms if time is None else time
        what = f"after what {orphan.path} holds, whose state is lost, and before offset {first}, records may be lost"
        log.error("%s: LOST, perhaps: %s", stream, what)
        loss = RecordsLost(
            archive.group, stream, None, what, first, orphan.first_ms, until, archive.host, LossCause.DELETED
        )
        consumer.events.publish(loss)
    return after


def _offset(position: TopicPosition | None) -> int:
    return position.offset if position else -1


def _is_redelivered(consumer: GroupConsumer, start: ResumePoint, orphan: PartialName) -> bool:
    """Whether all records of that partial will be consumed again."""
    stream = start.checkpoint.state.stream
    if start.offset is not None:
        return start.has_prior_state and consumer.topic_reader.offset_range(stream)[0] <= start.offset
    first = consumer.topic_reader.record_time_ms(stream)
    return first is not None and first <= orphan.first_ms
