"""Rebuild the files of one stream from its topic, into a target."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from archiver.archive.location import Location
from archiver.console.progress import Progress
from archiver.core.checkpoint import CheckpointError, decode
from archiver.core.events import FileFinished
from archiver.core.segmentation import Settings
from archiver.kafka.invalid_records import HeaderReader
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.replay.plan import ArchivePosition, Selection, TopicRange, topic_ranges
from archiver.replay.rebuilder import Rebuilder
from archiver.replay.rebuilt import RebuildTarget, RebuiltFile
from archiver.segments.carry import load_carry
from g3stream.contract.topics import ContractError


@dataclass(slots=True)
class ReplayResult:
    """The outcome of a replay, besides the target's results."""

    not_rebuilt: list[RebuiltFile] = field(default_factory=list)
    open_file: RebuiltFile | None = None
    """The file that is still open at the topic's end, if it is selected."""
    lost_records: int = 0
    """Records that are missing in the topic."""
    notes: list[str] = field(default_factory=list)
    """For the operator."""
    halted: str | None = None
    """Why the replay stopped: a record that can't be understood."""


@dataclass(frozen=True, slots=True)
class TopicReplay:
    """A replay of one stream, up to the end that its topic had at the start."""

    reader: TopicReader
    stream: str
    events: Sequence[FileFinished]
    """The stream's files, in order."""
    offsets: tuple[int, int]
    """The topic's first offset, and the one after its last."""
    commit: OffsetAndMetadata | None
    """The archive's."""
    location: Location
    """Searched for frames of the carry before the topic is."""

    def run(
        self, target: RebuildTarget, selection: Selection, progress: Progress, *, whole_topic: bool = False
    ) -> ReplayResult:
        """Rebuild the selected files.

        whole_topic: read the whole topic, as the events don't show where the selected files begin.
        Raises OSError, KafkaException.
        """
        result = ReplayResult()
        first, end = self.offsets
        progress.start(self.stream, end - first)
        load = partial(load_carry, location=self.location, fetch=partial(self.reader.record_value, self.stream))
        for wanted in [TopicRange()] if whole_topic else topic_ranges(self.events, selection):
            topic_range = self._available(wanted, result)
            rebuilder = Rebuilder(
                *(self.stream, topic_range, self.events, selection, target, load, self._archive_position()),
                is_truncated=first > 0,
            )
            try:
                self._read(
                    rebuilder, topic_range.after.offset if topic_range.after else first, target, progress, result
                )
            except ContractError as error:
                result.halted = str(error)
            result.lost_records += rebuilder.lost_records
            result.not_rebuilt += rebuilder.not_rebuilt
            if result.halted:
                break
        target.wait()
        progress.finish(self.stream)
        return result

    def _available(self, wanted: TopicRange, result: ReplayResult) -> TopicRange:
        """Return what there is of a range: it may begin with the topic's first record instead."""
        first, after = self.offsets[0], wanted.after
        if after is None or (first <= after.offset and self.reader.has_record(self.stream, after.closing)):
            return wanted
        result.notes.append(
            f"the topic, which begins at offset {first} now, no longer has the record that closed {after.path}; "
            "reading from its first record"
        )
        return replace(wanted, after=None)

    def _read(
        self, rebuilder: Rebuilder, start: int, target: RebuildTarget, progress: Progress, result: ReplayResult
    ) -> None:
        """Feed the rebuilder from the offset `start` on. Raises ContractError, which says what to do."""
        first, end = self.offsets
        count = replaced_times = 0
        header_reader = HeaderReader(self.reader, self.stream)
        for batch in self.reader.batches(self.stream, start, end):
            count += sum(map(len, batch))
            waiting = deque(batch)
            while waiting and not rebuilder.done:
                message = waiting.popleft()
                if headers := header_reader.read(message):
                    kind, time = message.timestamp()
                    rebuilder.feed(headers, time, message.value() or b"", message.offset() or 0)
                    # Nearly always, the following ones only continue the file.
                    in_a_row = 1 + rebuilder.feed_run(waiting, message, headers)
                    replaced_times += in_a_row if kind == TIMESTAMP_LOG_APPEND_TIME else 0
            target.flush(rebuilder.file)
            progress.update(self.stream, (batch[-1].offset() or 0) + 1 - first, count)
            if rebuilder.done:
                break
        if replaced_times:
            have = "record has" if replaced_times == 1 else "records have"
            result.notes.append(
                f"{replaced_times} {have} Kafka's times (message.timestamp.type=LogAppendTime): files are cut and "
                "named by these, as in the live archive; the times of receipt are lost"
            )
        if header_reader.quarantined:
            result.notes.append(f"left out {header_reader.quarantined} quarantined records")
        rebuilder.finish()
        result.open_file = rebuilder.file

    def _archive_position(self) -> ArchivePosition:
        last = self.events[-1].settings if self.events else Settings()
        if self.commit is None:
            return ArchivePosition(0, last)
        try:
            found = decode(self.commit.metadata, self.stream)
        except CheckpointError:  # of another program, or empty
            return ArchivePosition(self.commit.offset, last)
        acquisition, open_file = found.state.acquisition, found.partial
        first = (open_file.first.epoch, open_file.first.seq) if open_file else None
        return ArchivePosition(
            self.commit.offset, acquisition.settings if acquisition else last, first, is_known=True
        )
