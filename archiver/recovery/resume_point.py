"""The resume point of a stream: after its last commit, else after its last file, else the topic's first record.

The partials found there are handled, too: the open file is continued, rebuilt from the topic or, if the topic no
longer has its records, published as it is (salvage.py).
"""

import contextlib
import logging
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from msgspec.structs import replace

from archiver.archive.identity import Identity
from archiver.archive.ownership import another_archive_error
from archiver.archive.root import ArchiveRoot, unlocked_partials
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint, CheckpointError, Partial
from archiver.core.events import FileSalvaged, RecordsLost
from archiver.core.paths import SUMS, NameFormat, PartialName, parse_path, start_and_number
from archiver.core.segmentation import Settings, State, after_close
from archiver.core.segmenter import Carry
from archiver.core.used_names import with_name_taken
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.kafka.invalid_records import HeaderReader
from archiver.recovery.salvage import complete_frames, salvage
from archiver.segments.open_segment import OpenSegment
from archiver.segments.segment_file import PartialDamagedError
from g3stream.contract.sequence import LossCause, SequenceTracker, forgotten_before, roll_back
from g3stream.contract.topics import ContractError
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)


class _TopicPosition(NamedTuple):
    """The position after a record."""

    offset: int
    """Of the next record."""
    epoch: str
    """The record's producer epoch."""
    seq: int
    """The record's number within its producer epoch."""


class ResumePoint(NamedTuple):
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
    carry: Carry = MappingProxyType({})
    """The frames that head the following files, once they have been read."""


@dataclass(frozen=True, slots=True)
class ResumePointSearch:
    """The search for a stream's resume point; may take minutes.

    Its methods raise OSError, KafkaException, Cancelled.
    """

    archive: ArchiveRoot
    consumer: GroupConsumer
    stream: str
    cancellation: CancellationToken

    def find(self, committed: CommittedOffset) -> ResumePoint:
        """Find the resume point from the commit or the events, and handle the stream's partials.

        Raises CheckpointError if the state in Kafka can't be read, AnotherArchiveError if it is another archive's.
        """
        archive, start = self.archive, self._from_commit_or_events(committed)
        mark = start.checkpoint.archive
        if mark and archive.ids and mark.id not in archive.ids:
            raise another_archive_error(archive, Identity(archive.ids, archive.group), {self.stream: mark})
        start = start._replace(checkpoint=replace(start.checkpoint, archive=archive.mark))
        start = self._handle_orphans(start)
        checkpoint = start.checkpoint
        if checkpoint.partial is None or checkpoint.closing:
            return start if start.offset is not None else start._replace(offset=self._first_offset())
        try:
            file = OpenSegment.reopen(archive, checkpoint.partial, checkpoint.epochs, self.cancellation)
        except PartialDamagedError as error:
            return self.rebuild(checkpoint, start.offset or 0, str(error))
        log.info("%s: continuing %s at %.1f MB", self.stream, file.path, file.file.length_bytes / 1e6)
        return start._replace(file=file)

    def rebuild(self, checkpoint: Checkpoint, offset: int, why: str) -> ResumePoint:
        """Return a resume point that rebuilds the checkpoint's open file, whose partial isn't what was committed.

        If the topic no longer has its records, the partial is salvaged and the rest reported as lost.
        offset: the checkpoint's.
        """
        partial = checkpoint.partial
        assert partial
        assert checkpoint.state.acquisition
        first, base = self._first_offset(), partial.base
        if first <= base.offset:
            text = "%s: %s must be rebuilt from the topic: %s; nothing is lost"
            log.error(text, self.stream, partial.path, why)
            self.archive.discard(self.stream, partial.name)
            epochs = roll_back(checkpoint.epochs, base.epochs)
            forgotten = forgotten_before(epochs, checkpoint.forgotten)
            before = Checkpoint(base.state, epochs, checkpoint.files, base.carry, forgotten=forgotten)
            # With its own settings: with changed ones the file would end elsewhere, before what is committed.
            return ResumePoint(before, base.offset, settings=checkpoint.state.acquisition.settings)
        what = f"{partial.path}: {why}; the topic, which begins at offset {first} now, can't give it again"
        salvaged = self._salvage(partial.name, what)
        if salvaged is None and (salvaged := self._earlier_salvage(partial)):
            what = salvaged.what  # so that a loss that was published with it keeps its key
        missing = max(0, partial.frames + len(partial.carry) - (salvaged.frames if salvaged else 0))
        self._publish_loss(missing, what, offset, partial.first.time, partial.last.time, LossCause.DISK)
        _, number = start_and_number(salvaged.path if salvaged else partial.path)
        after = replace(checkpoint, state=after_close(checkpoint.state, number), partial=None, closing=None)
        return ResumePoint(after, offset)

    def _from_commit_or_events(self, committed: CommittedOffset) -> ResumePoint:
        stream, offset = self.stream, committed.offset
        if offset is not None and committed.metadata:
            return ResumePoint(checkpoints.decode(committed.metadata, stream), offset)
        last = self.consumer.last_file_index.find(stream, self.cancellation)
        if isinstance(last, CheckpointError):
            raise last
        if last is not None:
            if self.consumer.topic_reader.has_record(stream, last.closing):
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

    def _handle_orphans(self, start: ResumePoint) -> ResumePoint:
        """Discard or salvage partials that the state doesn't name.

        They were begun just before a kill, or are left of a lost state.
        """
        stream, checkpoint, partial = self.stream, start.checkpoint, start.checkpoint.partial
        with self.archive.private(stream) as private:
            names = set(private.names())
            for name in names:
                if name.startswith(f"{SUMS}.") and private.is_file(name):
                    private.unlink(name)  # left by a kill; anything else of that name isn't ours
            orphans = unlocked_partials(private, sorted(names - {partial.name} if partial else names))
        if not orphans:
            return start
        if start.offset is not None and not start.has_prior_state:
            # The offset was set by hand or by a tool. Wherever it is, the partial shows that records were recorded
            # whose file isn't finished: start before them, or records in between would be skipped or recorded twice.
            log.error("%s: its partial shows that there was a state; continuing at the topic's first record", stream)
            start = start._replace(offset=None)
        used_names = checkpoint.state.names
        after: _TopicPosition | None = None
        for name in orphans:
            orphan = PartialName.parse(name)
            assert orphan
            if (partial and partial.path == orphan.path) or self._is_redelivered(start, orphan):
                self.archive.discard(stream, name)
                log.info("%s: removed %s, begun just before a kill; its records are consumed again", stream, name)
                continue
            if start.offset is None:
                position = self._position_after_orphan(orphan, name, has_prior_state=start.has_prior_state)
                after = max(filter(None, (after, position)), default=None)
            if salvaged := self._salvage(name, "its state is lost, and the topic can't give it again"):
                found_name = parse_path(salvaged.path)
                assert found_name
                in_digits = found_name.name_format is not NameFormat.DATE
                used_names = with_name_taken(used_names, found_name.start_s, found_name.number, in_digits=in_digits)
        checkpoint = replace(checkpoint, state=replace(checkpoint.state, names=used_names))
        if after is None:
            return start._replace(checkpoint=checkpoint)
        log.info("%s: the topic has its last frame; continuing after it, at offset %d", stream, after.offset)
        seen = SequenceTracker(checkpoint.epochs, checkpoint.forgotten)
        seen.prepend([(after.epoch, after.seq)], ())
        return ResumePoint(replace(checkpoint, epochs=seen.epochs(), forgotten=seen.forgotten), after.offset)

    def _is_redelivered(self, start: ResumePoint, orphan: PartialName) -> bool:
        """Whether all records of that partial will be consumed again."""
        if start.offset is not None:
            return start.has_prior_state and self._first_offset() <= start.offset
        first_ms = self.consumer.topic_reader.record_time_ms(self.stream)
        return first_ms is not None and first_ms <= orphan.first_ms

    def _position_after_orphan(
        self, orphan: PartialName, name: str, *, has_prior_state: bool
    ) -> _TopicPosition | None:
        """Return the position after the partial's last frame; None if the topic no longer has it.

        Then, unless a state shows what is missing before the topic's first record, a loss is published.
        """
        with self.archive.private(self.stream) as private:
            frame = b""
            if private.is_file(name):
                whole = complete_frames(private, name, self.cancellation)
                frame = private.read(name, whole.bytes - whole.last_start, whole.last_start)
        after = self._position_after_frame(frame) if frame else None
        if after is None and not has_prior_state:
            first, time_ms = self._first_offset(), self.consumer.topic_reader.record_time_ms(self.stream)
            until_ms = orphan.first_ms if time_ms is None else time_ms
            lost = f"after what {orphan.path} holds, whose state is lost, and before offset {first}"
            what = f"{lost}, records may be lost"
            self._publish_loss(None, what, first, orphan.first_ms, until_ms, LossCause.DELETED)
        return after

    def _position_after_frame(self, frame: bytes) -> _TopicPosition | None:
        """Return the position after the first record of the topic with these bytes; None if it has none.

        Frames in a file have no offset, so the topic is searched, which may take as long as recording it.
        """
        reader, stream, seen = self.consumer.topic_reader, self.stream, SequenceTracker()
        header_reader = HeaderReader(reader, stream)
        with contextlib.suppress(ContractError):  # nothing is recorded after that either
            for batch in reader.batches(stream, *reader.offset_range(stream)):
                self.cancellation.raise_if_cancelled(f"looking for the end of a partial of {stream}")
                for message in batch:
                    headers = header_reader.read(message)
                    offset = message.offset() or 0
                    record = headers and seen.assemble(headers, 0, message.value() or b"", offset)
                    if record and record.bytes == len(frame) and b"".join(record.value) == frame:
                        return _TopicPosition(offset + 1, record.headers.epoch, record.headers.seq)
        return None

    def _salvage(self, name: str, why: str) -> FileSalvaged | None:
        return salvage(self.archive, self.consumer.events.publish, self.stream, name, why, self.cancellation)

    def _earlier_salvage(self, partial: Partial) -> FileSalvaged | None:
        """Return the event of that partial, if it was salvaged before, and a kill or Kafka prevented the commit.

        Finds only a partial that got its own name.
        """
        for event in self.consumer.topic_reader.events([self.stream]):
            self.cancellation.raise_if_cancelled(f"looking for the event of {partial.path}")
            if isinstance(event, FileSalvaged) and (event.stream, event.path) == (self.stream, partial.path):
                return event
        return None

    def _publish_loss(
        self, records: int | None, what: str, offset: int, since_ms: int, until_ms: int, cause: LossCause
    ) -> None:
        """Publish a loss; records: None if it isn't known how many, if any."""
        how_many = ", perhaps:" if records is None else f" {records} frames of"
        log.error("%s: LOST%s %s; recording continues", self.stream, how_many, what)
        group, host = self.archive.group, self.archive.host
        self.consumer.events.publish(
            RecordsLost(group, self.stream, records, what, offset, since_ms, until_ms, host, cause)
        )

    def _first_offset(self) -> int:
        """The topic's."""
        return self.consumer.topic_reader.offset_range(self.stream)[0]
