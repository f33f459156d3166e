"""A stream's topic read once more, by itself, and what it gives taken to a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from archiver.archive.location import Location, Within
from archiver.console.progress import Progress
from archiver.core.checkpoint import CheckpointError, Place, decode
from archiver.core.events import FileFinished
from archiver.core.segmentation import Settings, Why
from archiver.kafka.invalid_records import Labels
from archiver.kafka.topic_reader import Commit, History
from archiver.replay.rebuilder import Choice, Reached, Rebuilding, Rebuilt, Start, Wanted
from archiver.replay.sinks import DryRun, IntoDirectory
from archiver.replay.topic_ranges import starts
from archiver.segments.carry import Carry
from g3stream.contract.errors import ContractError


@dataclass(slots=True)
class Came:
    """What came of it, besides what the target has done. open: the file that the topic's end left open, if wanted.
    lost: how many records the topic lacks. notes: what an operator should know; stopped: by what can't be understood.
    """

    left_out: list[Rebuilt] = field(default_factory=list)
    open: Rebuilt | None = None
    lost: int = 0
    notes: list[str] = field(default_factory=list)
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Rereading:
    """Of one stream, to the end of its topic as it was at the start. told: its files, in order. span: of its topic.

    commit: the archive's. location: where frames to be repeated are looked for, before the topic.
    """

    history: History
    stream: str
    told: Sequence[FileFinished]
    span: tuple[int, int]
    commit: Commit | None
    location: Location

    def into(
        self, target: DryRun | IntoDirectory, choice: Choice, wanted: Wanted, progress: Progress, *, all_of_it: bool
    ) -> Came:
        """Rebuild what is wanted. all_of_it: read the whole topic, as what is told doesn't say where that begins.

        Raises OSError, KafkaException.
        """
        boundaries = set(Why) - {Why.TIME} - ({Why.GAP} if choice.given else set())
        came = Came()
        for after, through in [(None, None)] if all_of_it else starts(self.told, wanted, boundaries):
            start = self._start(after, came)
            rebuilding = Rebuilding(
                *(self.stream, start, self.told, choice, wanted),
                *(target, self._load, self._reached(), through),
            )
            try:
                left_out = self._read(rebuilding, start, target, progress, came)
                came.open = rebuilding.file
                if left_out:
                    came.notes.append(f"left out {left_out} records that are in quarantine")
            except ContractError as error:
                came.stopped = str(error)
            came.lost += rebuilding.lost
            came.left_out += rebuilding.left_out
            if came.stopped:
                break
        target.wait()
        return came

    def _read(
        self, rebuilding: Rebuilding, start: Start, target: DryRun | IntoDirectory, progress: Progress, came: Came
    ) -> int:
        """Gives how many records were left out, as they are in quarantine."""
        first, end = self.span
        count = replaced = 0
        labels = Labels(self.history, self.stream)
        for batch in self.history.batches(self.stream, first if start.offset is None else start.offset, end):
            for message in batch:
                value, offset = message.value() or b"", message.offset() or 0
                if label := labels.of(message):
                    kind, time = message.timestamp()
                    replaced += kind == TIMESTAMP_LOG_APPEND_TIME
                    rebuilding.take(label, time, value, offset)
                count += len(message)
                if rebuilding.over:
                    break
            target.flush(rebuilding.file)
            progress.at(self.stream, (batch[-1].offset() or 0) + 1 - first, count)
            if rebuilding.over:
                break
        if replaced:
            bear = "record bears" if replaced == 1 else "records bear"
            came.notes.append(
                f"{replaced} {bear} Kafka's times (message.timestamp.type=LogAppendTime): files are cut and named by "
                "these, as the live archive's are; those of receipt are lost"
            )
        rebuilding.end()
        return labels.left_out

    def _start(self, after: FileFinished | None, came: Came) -> Start:
        first, _ = self.span
        if after is not None:
            if first <= after.offset and self.history.holds(self.stream, after.closing):
                return Start(after.offset, after.checkpoint, cut=False)
            came.notes.append(
                f"the topic, which begins at offset {first} now, hasn't the record any more that ended {after.path}; "
                "reading from its first record on"
            )
        return Start(None, None, cut=first > 0)

    def _reached(self) -> Reached:
        last = self.told[-1].settings if self.told else Settings()
        if self.commit is None:
            return Reached(0, last)
        try:
            found = decode(self.commit.metadata, self.stream)
        except CheckpointError:  # of a program that isn't ours, or empty
            return Reached(self.commit.offset, last)
        acquisition, partial = found.state.acquisition, found.partial
        first = (partial.first.epoch, partial.first.seq) if partial else None
        return Reached(self.commit.offset, acquisition.settings if acquisition else last, first, known=True)

    def _load(self, places: Mapping[int, Place]) -> Carry:
        return Carry.load(places, self.location, _in_files, self._fetch)

    def _fetch(self, offset: int) -> tuple[bytes, ...]:
        return self.history.value(self.stream, offset)


def _in_files(path: str) -> list[tuple[Within, str]]:
    parent, _, name = path.rpartition("/")
    return [(Within(parent), name)]
