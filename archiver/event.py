"""What the archiver tells the world on the topic g3.files: a file is finished, or records were lost."""

from typing import Literal

import msgspec
from msgspec import Struct

from archiver.checkpoint import Checkpoint, RecordId
from archiver.segmentation import Settings, Why


class FileFinished(Struct, frozen=True, tag_field="event", tag="file"):
    """A file is durable under its name, and will never change.

    number: the how-many-th file of this group and stream. start: s, of the acquisition. bytes with the carry,
    frames without. carry: type codes of the frames repeated at its head. first, last: of its frames; closing: the
    record that closed it, from which `checkpoint` goes on. host: where it was written.
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
    checkpoint: Checkpoint
    host: str
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same file, so that a doubled event is recognisable."""
        return f"{self.group}/{self.stream}/{self.path}"


class RecordsLost(Struct, frozen=True, tag_field="event", tag="loss"):
    """Records are missing, or may be. records: how many, None if unknown. offset: where it was noticed, just
    after the record that showed it."""

    group: str
    stream: str
    records: int | None
    what: str
    offset: int
    host: str
    v: Literal[1] = 1

    @property
    def key(self) -> str:
        """The Kafka key: the same for the same loss."""
        return f"{self.group}/{self.stream}/loss/{self.offset}"


Event = FileFinished | RecordsLost

_ENCODER = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """As the value of a record on g3.files."""
    return _ENCODER.encode(event)
