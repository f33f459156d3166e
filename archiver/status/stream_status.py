"""How a stream is, by its topic and a group's commit: its last record, open file, and lag. Pure."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from archiver.core.checkpoint import Checkpoint, CheckpointError, decode
from archiver.core.formatting import format_iso
from archiver.core.paths import NameFormat
from archiver.core.segmentation import State
from archiver.kafka.topic_reader import OffsetAndMetadata
from archiver.kafka.topic_tail import TailRecord
from g3stream.contract.headers import Kind, RecordHeaders


class Status(Struct, kw_only=True):
    """The status of a stream, with the field names of --json, documented in --help.

    Times in ms since the epoch; None if unknown or not applicable.
    """

    stream: str
    group: str
    problem: str | None = None
    records: int = 0
    last_record: int | None = None
    fact: Kind | None = None
    fact_why: str | None = None
    fact_time: int | None = None
    frames_since: int | None = None
    offset: int | None = None
    lag: int | None = None
    lag_since: int | None = None
    acquisition_since: int | None = None
    file: str | None = None
    file_start: int | None = None
    file_bytes: int | None = None
    file_frames: int | None = None
    closing: str | None = None


_TIMES = ("last_record", "fact_time", "frames_since", "lag_since", "acquisition_since", "file_start")


def status_of(
    stream: str,
    group: str,
    span: tuple[int, int],
    last_records: Sequence[TailRecord],
    commit: OffsetAndMetadata | None,
    next_ones: Sequence[TailRecord],
) -> Status:
    """Return a stream's status. Pure.

    span: the topic's first offset, and the one after its last. last_records: its last records. next_ones: those from
    the committed offset on, at least the first of them.
    """
    first, end = span
    problem, state = _understood(stream, commit, span)
    fact = next((entry for entry in reversed(last_records) if not is_frame(entry.headers)), None)
    if fact and fact.headers is None:
        problem = problem or f"the record at offset {fact.offset} can't be understood; recording stops there"
    status = Status(stream=stream, group=group, problem=problem, records=end - first)
    if last_records:
        status.last_record = last_records[-1].time_ms
        if last_records[-1].time_replaced and not problem:
            status.problem = "its records have Kafka's times (message.timestamp.type=LogAppendTime)"
    if fact:
        status.fact_time = fact.time_ms
        if fact.headers:
            status.fact, status.fact_why = fact.headers.kind, fact.headers.why
    elif last_records:
        # The checkpoint reaches further back than the records that were read.
        before = state.state if state and commit and commit.offset >= last_records[0].offset else None
        began = _began(before) if before else None
        status.frames_since = last_records[0].time_ms if began is None else min(last_records[0].time_ms, began)
    if commit:
        status.offset, status.lag = commit.offset, max(0, end - commit.offset)
    if next_ones:
        status.lag_since = next_ones[0].time_ms
    if state and (partial := state.partial):
        status.file, status.file_start = partial.path, partial.first.time
        status.file_bytes, status.file_frames = partial.length, partial.frames
        status.acquisition_since = _began(state.state)
    if state and state.closing:
        status.closing = str(state.closing.why)
    return status


def _began(state: State) -> int | None:
    """Return when the open acquisition began, ms since the epoch.

    With names by session, whose start is a session_id, when its open file began.
    """
    if state.acquisition is None:
        return None
    if state.acquisition.settings.name_format is NameFormat.SESSION:
        return state.file.first_frame_ms if state.file else None
    return state.acquisition.start_s * 1000


def _understood(
    stream: str, commit: OffsetAndMetadata | None, span: tuple[int, int]
) -> tuple[str | None, Checkpoint | None]:
    """Return what is wrong with the group's commit, if anything, and its checkpoint."""
    if commit is None:
        return "not recorded by this group", None
    try:
        state = decode(commit.metadata, stream) if commit.metadata else None
    except CheckpointError as error:
        return str(error), None
    first, end = span
    if state is None:
        return "the group has committed an offset, but without a checkpoint", None
    if commit.offset < first:
        return f"{first - commit.offset} records were deleted before this group had recorded them", state
    if commit.offset > end:
        return f"the topic ends at offset {end}, before the committed one: it was deleted and created again", state
    return None, state


def as_json(status: Status) -> dict[str, Any]:
    """Return the JSON object of a status, with the names documented in --help."""
    fields: dict[str, Any] = msgspec.to_builtins(status)
    return {name: format_iso(value) if name in _TIMES else value for name, value in fields.items()}


def is_frame(headers: RecordHeaders | None) -> bool:
    """Return whether these are the headers of a frame."""
    return headers is not None and headers.kind is Kind.FRAME
