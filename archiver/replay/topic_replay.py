"""Rebuild the files of one stream from its topic, into a target."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from archiver.archive.location import Location
from archiver.console.progress import Progress
from archiver.core.checkpoint import CheckpointError, FramePlace, decode
from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason, Settings
from archiver.core.segmenter import Carry
from archiver.kafka.invalid_records import HeaderReader
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.replay.plan import ArchivePosition, Overrides, ReplayStart, Selection
from archiver.replay.rebuilder import Rebuilder
from archiver.replay.rebuilt import RebuildTarget, RebuiltFile
from archiver.replay.topic_ranges import topic_ranges
from archiver.segments.carry import load_carry
from g3stream.contract.errors import ContractError


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
        self,
        target: RebuildTarget,
        overrides: Overrides,
        selection: Selection,
        progress: Progress,
        *,
        whole_topic: bool,
    ) -> ReplayResult:
        """Rebuild the selected files.

        whole_topic: read the whole topic, as the events don't show where the selected files begin.
        Raises OSError, KafkaException.
        """
        boundaries = set(CloseReason) - {CloseReason.TIME} - ({CloseReason.GAP} if overrides.any_given else set())
        result = ReplayResult()
        for after, through in [(None, None)] if whole_topic else topic_ranges(self.events, selection, boundaries):
            start = self._start(after, result)
            rebuilder = Rebuilder(
                *(self.stream, start, self.events, overrides, selection),
                *(target, self._load, self._archive_position(), through),
            )
            try:
                quarantined = self._read(rebuilder, start, target, progress, result)
                result.open_file = rebuilder.file
                if quarantined:
                    result.notes.append(f"left out {quarantined} quarantined records")
            except ContractError as error:
                result.halted = str(error)
            result.lost_records += rebuilder.lost_records
            result.not_rebuilt += rebuilder.not_rebuilt
            if result.halted:
                break
        target.wait()
        return result

    def _read(
        self,
        rebuilder: Rebuilder,
        start: ReplayStart,
        target: RebuildTarget,
        progress: Progress,
        result: ReplayResult,
    ) -> int:
        """Feed the range to the rebuilder; return the number of quarantined records that were left out."""
        first, end = self.offsets
        count = replaced_times = 0
        header_reader = HeaderReader(self.reader, self.stream)
        for batch in self.reader.batches(self.stream, first if start.offset is None else start.offset, end):
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
        rebuilder.finish()
        return header_reader.quarantined

    def _start(self, after: FileFinished | None, result: ReplayResult) -> ReplayStart:
        first, _ = self.offsets
        if after is not None:
            if first <= after.offset and self.reader.has_record(self.stream, after.closing):
                return ReplayStart(after.offset, after.checkpoint, is_truncated=False)
            result.notes.append(
                f"the topic, which begins at offset {first} now, no longer has the record that closed {after.path}; "
                "reading from its first record"
            )
        return ReplayStart(None, None, is_truncated=first > 0)

    def _archive_position(self) -> ArchivePosition:
        last = self.events[-1].settings if self.events else Settings()
        if self.commit is None:
            return ArchivePosition(0, last)
        try:
            found = decode(self.commit.metadata, self.stream)
        except CheckpointError:  # of another program, or empty
            return ArchivePosition(self.commit.offset, last)
        acquisition, partial = found.state.acquisition, found.partial
        first = (partial.first.epoch, partial.first.seq) if partial else None
        return ArchivePosition(
            self.commit.offset, acquisition.settings if acquisition else last, first, is_known=True
        )

    def _load(self, places: Mapping[int, FramePlace]) -> Carry:
        return load_carry(places, self.location, self._fetch)

    def _fetch(self, offset: int) -> tuple[bytes, ...]:
        return self.reader.record_value(self.stream, offset)
