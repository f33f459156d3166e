"""A stream's topic read once more, by itself, and what it gives taken to a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.core.checkpoint import CheckpointError, FramePlace, decode
from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason, Settings
from archiver.kafka.invalid_records import HeaderReader
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.replay.plan import ArchivePosition, Overrides, ReplayStart, Selection
from archiver.replay.rebuilder import Rebuilder
from archiver.replay.rebuilt import RebuiltFile
from archiver.replay.sinks import DirectoryTarget, DryRunTarget
from archiver.replay.topic_ranges import pieces
from archiver.segments.carry import Carry
from g3stream.contract.errors import ContractError


@dataclass(slots=True)
class ReplayResult:
    """What came of it, besides what the target has done. open_file: the file that the topic's end left open, if
    wanted. lost_records: how many records the topic lacks. notes: what an operator should know; halted: by what can't
    be understood.
    """

    not_rebuilt: list[RebuiltFile] = field(default_factory=list)
    open_file: RebuiltFile | None = None
    lost_records: int = 0
    notes: list[str] = field(default_factory=list)
    halted: str | None = None


@dataclass(frozen=True, slots=True)
class TopicReplay:
    """Of one stream, to the end of its topic as it was at the start. events: its files, in order. offsets: of its
    topic.

    commit: the archive's. location: where frames to be repeated are looked for, before the topic.
    """

    reader: TopicReader
    stream: str
    events: Sequence[FileFinished]
    offsets: tuple[int, int]
    commit: OffsetAndMetadata | None
    location: Location

    def run(
        self,
        target: DryRunTarget | DirectoryTarget,
        overrides: Overrides,
        selection: Selection,
        progress: Progress,
        *,
        whole_topic: bool,
    ) -> ReplayResult:
        """Rebuild what is wanted. whole_topic: read the whole topic, as what is told doesn't say where that begins.

        Raises OSError, KafkaException.
        """
        boundaries = set(CloseReason) - {CloseReason.TIME} - ({CloseReason.GAP} if overrides.any_given else set())
        result = ReplayResult()
        for after, through in [(None, None)] if whole_topic else pieces(self.events, selection, boundaries):
            start = self._start(after, result)
            rebuilder = Rebuilder(
                *(self.stream, start, self.events, overrides, selection),
                *(target, self._load, self._archive_position(), through),
            )
            try:
                quarantined = self._read(rebuilder, start, target, progress, result)
                result.open_file = rebuilder.file
                if quarantined:
                    result.notes.append(f"left out {quarantined} records that are in quarantine")
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
        target: DryRunTarget | DirectoryTarget,
        progress: Progress,
        result: ReplayResult,
    ) -> int:
        """Gives how many records were left out, as they are in quarantine."""
        first, end = self.offsets
        count = replaced_times = 0
        header_reader = HeaderReader(self.reader, self.stream)
        for batch in self.reader.batches(self.stream, first if start.offset is None else start.offset, end):
            for message in batch:
                value, offset = message.value() or b"", message.offset() or 0
                if headers := header_reader.read(message):
                    kind, time = message.timestamp()
                    replaced_times += kind == TIMESTAMP_LOG_APPEND_TIME
                    rebuilder.feed(headers, time, value, offset)
                count += len(message)
                if rebuilder.done:
                    break
            target.flush(rebuilder.file)
            progress.update(self.stream, (batch[-1].offset() or 0) + 1 - first, count)
            if rebuilder.done:
                break
        if replaced_times:
            bear = "record bears" if replaced_times == 1 else "records bear"
            result.notes.append(
                f"{replaced_times} {bear} Kafka's times (message.timestamp.type=LogAppendTime): files are cut and "
                "named by these, as the live archive's are; those of receipt are lost"
            )
        rebuilder.finish()
        return header_reader.quarantined

    def _start(self, after: FileFinished | None, result: ReplayResult) -> ReplayStart:
        first, _ = self.offsets
        if after is not None:
            if first <= after.offset and self.reader.has_record(self.stream, after.closing):
                return ReplayStart(after.offset, after.checkpoint, is_truncated=False)
            result.notes.append(
                f"the topic, which begins at offset {first} now, hasn't the record any more that ended {after.path}; "
                "reading from its first record on"
            )
        return ReplayStart(None, None, is_truncated=first > 0)

    def _archive_position(self) -> ArchivePosition:
        last = self.events[-1].settings if self.events else Settings()
        if self.commit is None:
            return ArchivePosition(0, last)
        try:
            found = decode(self.commit.metadata, self.stream)
        except CheckpointError:  # of a program that isn't ours, or empty
            return ArchivePosition(self.commit.offset, last)
        acquisition, partial = found.state.acquisition, found.partial
        first = (partial.first.epoch, partial.first.seq) if partial else None
        return ArchivePosition(
            self.commit.offset, acquisition.settings if acquisition else last, first, is_known=True
        )

    def _load(self, places: Mapping[int, FramePlace]) -> Carry:
        return Carry.load(places, self.location, _in_files, self._fetch)

    def _fetch(self, offset: int) -> tuple[bytes, ...]:
        return self.reader.record_value(self.stream, offset)


def _in_files(path: str) -> list[tuple[Within, str]]:
    parent, _, name = path.rpartition("/")
    return [(Within(parent), name)]
