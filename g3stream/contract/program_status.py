"""Program status: what each program reports of itself on the topic g3.status, the latest report by key.

A report each INTERVAL_S shows which program has died, and which has nothing to do: without it, a killed ingest looks
like one that waits for its sender. The topic is compacted, so it doesn't grow with time. Readers ignore fields that
they don't know, and reports that they can't decode: a later version may add some.
"""

from typing import Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from g3stream.contract.topics import ContractError

INTERVAL_S = 10.0
"""Between two reports of a program."""
OVERDUE_S = 35.0
"""A program whose last report is older is dead, or can't reach Kafka: three reports are missing."""
ARCHIVER_RATE_MS = 600_000
"""An archiver's rate is a mean of so long, or since its start: for how long its disk lasts, pauses count."""
MAX_PROBLEMS = 8
_MAX_PROBLEM = 300
"""Characters. With MAX_PROBLEMS, a report has 3 kB at most beside its streams."""


class ProgramStatus(Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="program"):
    """What all programs report. Times are in ms since the epoch, by the clock of the program's host."""

    host: str
    version: str
    time_ms: int
    """Of this report."""
    started_ms: int
    stopped: bool = False
    """Whether this is the last report, of an orderly stop."""
    bytes_per_s: float = 0.0
    """Data frames received, or recorded, since the report before."""
    problems: tuple[str, ...] = ()
    """What is wrong, in words, as /healthz says."""

    @property
    def key(self) -> str:
        """The key of its messages: reports with the same key replace each other."""
        raise NotImplementedError

    def as_stopped(self, now_ms: int) -> Self:
        """Return the last report, of an orderly stop. now_ms: since the epoch."""
        return replace(self, time_ms=now_ms, stopped=True, bytes_per_s=0.0, problems=())

    def is_overdue(self, now_ms: int) -> bool:
        """Whether the program should have reported again by now, and hasn't stopped. now_ms: since the epoch."""
        return not self.stopped and now_ms - self.time_ms > OVERDUE_S * 1000


class IngestStatus(ProgramStatus, tag="ingest", kw_only=True, frozen=True, omit_defaults=True):
    """What an ingest reports of one of its streams."""

    stream: str
    source: str
    """The endpoint that its frames come from."""
    connected: bool
    since_ms: int
    """When the connection was made or closed; at first, when the stream was started."""
    disconnect_reason: str = ""
    """Why the last connection was closed."""
    last_frame_ms: int | None = None
    spool_bytes: int = 0
    """Of the records that Kafka hasn't acknowledged."""

    def as_stopped(self, now_ms: int) -> Self:
        """See ProgramStatus."""
        return replace(super().as_stopped(now_ms), since_ms=now_ms, connected=False)

    @property
    def key(self) -> str:
        """See ProgramStatus."""
        return f"ingest:{self.stream}"


class ArchiverStatus(ProgramStatus, tag="archiver", kw_only=True, frozen=True, omit_defaults=True):
    """What an archiver reports."""

    group: str
    instance: str
    """Its name in the group: Kafka's group.instance.id."""
    data_dir: str
    streams: tuple[str, ...] = ()
    """Those that it records now."""
    disk_free_bytes: int | None = None
    """Of the data directory's disk; None if it doesn't answer."""

    def as_stopped(self, now_ms: int) -> Self:
        """See ProgramStatus."""
        return replace(super().as_stopped(now_ms), streams=())

    @property
    def key(self) -> str:
        """See ProgramStatus."""
        return f"archiver:{self.group}:{self.instance}"


class VerifyStatus(Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="program", tag="verify"):
    """The outcome of the last `archiver verify` of a whole archive."""

    group: str
    host: str
    data_dir: str
    time_ms: int
    files: int
    bytes: int
    wrong: int
    """Faults that were found."""
    unknown: int = 0
    """Files without an event."""
    against_topic: bool = False
    """Whether the files were compared with the topics, too."""

    @property
    def key(self) -> str:
        """The key of its messages, as ProgramStatus.key."""
        return f"verify:{self.group}"


Report = IngestStatus | ArchiverStatus | VerifyStatus
"""A message's value on g3.status."""


def shortened(problems: list[str]) -> tuple[str, ...]:
    """Return the problems for a report: the first ones, none of them long."""
    return tuple(it if len(it) <= _MAX_PROBLEM else f"{it[: _MAX_PROBLEM - 1]}…" for it in problems[:MAX_PROBLEMS])


def encode(status: ProgramStatus | VerifyStatus) -> bytes:
    """Return a message's value."""
    return msgspec.json.encode(status)


def decode(value: bytes) -> Report:
    """Return the report in a message's value. Raises ContractError."""
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ContractError(f"no report of a program: {error}") from None


_DECODER = msgspec.json.Decoder(Report)
