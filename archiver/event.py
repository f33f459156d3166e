"""What the archiver tells the world on the topic g3.files: a file is finished, or records were lost."""

from typing import Literal

import msgspec
from msgspec import Struct

from archiver.checkpoint import Checkpoint, CheckpointError, RecordId, checked
from archiver.segmentation import Count, Settings, Why


class FileFinished(Struct, frozen=True, tag_field="event", tag="file"):
    """A file is durable under its name, and will never change.

    number: the how-many-th file of this group and stream. start: s, of the acquisition. bytes with the carry,
    frames without. carry: type codes of the frames repeated at its head. first, last: of its frames; closing: the
    record that closed it; `checkpoint` goes on at `offset`, with that record or what it needs before. missing: how
    many frames before or between these were never received, as jumps of frame_num say. host: where it was written.
    """

    group: str
    stream: str
    path: str
    number: int
    id: str
    start: int
    suffix: int
    settings: Settings
    why: Why
    frames: int
    bytes: int
    sha256: str
    carry: tuple[int, ...]
    first: RecordId
    last: RecordId
    closing: RecordId
    offset: Count
    checkpoint: Checkpoint
    host: str
    missing: Count = 0
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file, so that a doubled event is recognisable."""
        return f"{self.group}/{self.stream}/{self.path}"


class RecordsLost(Struct, frozen=True, tag_field="event", tag="loss"):
    """Records are missing, or may be. records: how many, None if unknown. offset: where it was noticed, just
    after the record that showed it. since, until: ms, the times of the last record before the loss, if known, and of
    that record."""

    group: str
    stream: str
    records: int | None
    what: str
    offset: int
    since: int | None
    until: int
    host: str
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same loss."""
        return f"{self.group}/{self.stream}/loss/{self.offset}"


class FileSalvaged(Struct, frozen=True, tag_field="event", tag="salvaged"):
    """What a partial held that the topic can't give again has been published, up to its last whole frame.

    frames: with the carry. what: why it could not be gone on with, and what is missing.
    """

    group: str
    stream: str
    path: str
    frames: int
    bytes: int
    sha256: str
    what: str
    host: str
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file."""
        return f"{self.group}/{self.stream}/{self.path}"


Event = FileFinished | FileSalvaged | RecordsLost

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Event)


def encode(event: Event) -> bytes:
    """As the value of a record on g3.files."""
    return _ENCODER.encode(event)


def decode(value: bytes) -> Event:
    """Read an event back. Raises CheckpointError if it isn't one that this program writes."""
    try:
        event: Event = _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"a record of g3.files is no event: {error}") from None
    if isinstance(event, FileFinished):
        checked(event.checkpoint, event.stream)
    return event
