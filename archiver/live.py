"""How a running archive is at this moment, as its own process sees it; `archiver status` sees it from outside."""

from dataclasses import dataclass

from archiver.segmentation import Why


@dataclass(frozen=True, slots=True)
class OpenFile:
    """The file that is being recorded, or finished (then closing says why).

    path: that it will have, below the data directory. first: ms, the time of its first frame. bytes: written;
    durable_bytes: of those, committed. frames: without those repeated at its head.
    """

    path: str
    first: int
    bytes: int
    durable_bytes: int
    frames: int
    closing: Why | None


@dataclass(frozen=True, slots=True)
class RecordingStatus:
    """How the recording of a stream is. Counts since this archiver took the stream.

    offset: of the next record to be recorded; committed: up to it everything is durable; end: after the topic's last
    record, as far as Kafka has told. None: not known. time: ms, of the last record taken, 0 if none was. losses: how
    often records were lost, lost_records: how many are known to be. duplicates: records dropped as such. turns: how
    often two ingests took turns. trouble: why it can't write now; stopped: why it has stopped for good.
    """

    stream: str
    offset: int | None
    committed: int | None
    end: int | None
    time: int
    file: OpenFile | None
    losses: int
    lost_records: int
    duplicates: int
    turns: int
    trouble: str | None
    stopped: str | None

    @property
    def lag(self) -> int:
        """How many records aren't recorded yet, as far as is known."""
        return max(0, self.end - self.offset) if self.end is not None and self.offset is not None else 0


@dataclass(frozen=True, slots=True)
class ArchiveStatus:
    """How an archive is. trouble: of Kafka, as last heard; None once it answers."""

    streams: tuple[RecordingStatus, ...]
    trouble: str | None
