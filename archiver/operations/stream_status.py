"""The command `archiver status`: shows each stream's last record, open file, and the lag of its archive."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from archiver.console.runner import print_err, print_lines, print_out, table
from archiver.core.checkpoint import Checkpoint, CheckpointError, decode
from archiver.core.formatting import format_bytes, format_duration, format_iso
from archiver.core.paths import NameFormat
from archiver.core.segmentation import CloseReason, State
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.kafka.topic_tail import TailRecord, TopicTails, open_tails
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topic_settings import describe_other_partitions
from g3stream.host.environment import now_ms


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
    file: str | None = None
    file_start: int | None = None
    file_bytes: int | None = None
    file_frames: int | None = None
    closing: str | None = None


_TIMES = ("last_record", "fact_time", "frames_since", "lag_since", "file_start")


def show(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/status.py); return its exit code."""
    reader = TopicReader(config, options.group)
    with open_tails(reader) as tails:
        found = statuses(tails, reader, options.stream)
    if options.json:
        for status in found:
            print_out(json.dumps(as_json(status)))
    elif found:
        print_lines(as_table(found, now_ms()))
    else:
        print_err("no stream has a topic yet (ingest creates it), or ACLs hide them (Read on g3.frames.… is needed)")
    return 0


def statuses(tails: TopicTails, reader: TopicReader, wanted: Sequence[str]) -> list[Status]:
    """Return the status of these streams; of all, if none are named. Raises KafkaException."""
    group = reader.group
    topics = tails.streams()
    reader.check_not_hidden(sorted(set(wanted) - topics.keys()))
    good = [stream for stream in topics if not wanted or stream in wanted]
    # In this order: records are published and committed meanwhile, and none is committed before it is in the topic.
    commits = reader.committed(good)
    spans = tails.offset_ranges(good)
    entries = tails.read_back(spans, lambda found: any(not _is_frame(entry.headers) for entry in found))
    behind = {}  # by stream that lags: the range of the first record that isn't recorded
    for stream, commit in commits.items():
        first, end = spans[stream]
        if max(first, commit.offset) < end:
            behind[stream] = max(first, commit.offset), max(first, commit.offset) + 1
    next_entries = tails.read(behind)
    elsewhere = tails.other_partitions({stream: topics[stream] for stream in good})
    found = []
    for stream in sorted(set(wanted)) or topics:
        if stream not in topics:
            found.append(Status(stream=stream, group=group, problem="it has no topic: no ingest has published yet"))
        else:
            last_records, next_ones = entries[stream], next_entries.get(stream, ())
            status = status_of(stream, group, spans[stream], last_records, commits.get(stream), next_ones)
            if (others := elsewhere.get(stream)) and not status.problem:
                status.problem = f"its topic has {describe_other_partitions(others)}"
            found.append(status)
    return found


def status_of(
    stream: str,
    group: str,
    span: tuple[int, int],
    last_records: Sequence[TailRecord],
    commit: OffsetAndMetadata | None,
    next_ones: Sequence[TailRecord],
) -> Status:
    """Return a stream's status. Pure.

    span: the topic's first offset, and the one after its last. last_records: its last records. next_ones: the record
    at the committed offset, if there is one.
    """
    first, end = span
    problem, state = _understood(stream, commit, span)
    fact = next((entry for entry in reversed(last_records) if not _is_frame(entry.headers)), None)
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
    return {
        name: format_iso(value) if name in _TIMES and value is not None else value for name, value in fields.items()
    }


def as_table(statuses: Sequence[Status], now: int) -> str:
    """Return a table for people. now: ms since the epoch."""
    head = ("stream", " last record", "last state", " lag", "open file", " age", " size")
    return table(head, [_row(status, now) for status in statuses])


def _row(status: Status, now: int) -> tuple[str, ...]:
    def duration(since: int) -> str:
        """Return the time since then; 0 if it is later than now, as another host's clock may say."""
        return format_duration(max(0, now - since))

    def ago(time: int | None) -> str:
        return "" if time is None else f"{duration(time)} ago"

    if status.fact:
        why = f": {status.fact_why}" if status.fact_why else ""
        fact = f"{Kind(status.fact).shown}, {ago(status.fact_time)}{why}"
    elif status.frames_since is not None:
        fact = f"frames for over {duration(status.frames_since)}"
    else:
        fact = "-"
    lag = "" if status.lag is None else f"{status.lag:,}"
    if status.lag and status.lag_since is not None:
        lag += f", {duration(status.lag_since)}"
    file = status.file or "-"
    if status.closing:
        file += f" (being finished: {CloseReason(status.closing).shown})"
    if status.problem:
        file = status.problem if status.file is None else f"{file} ({status.problem})"
    age = "" if status.file_start is None else duration(status.file_start)
    written = "" if status.file_bytes is None else format_bytes(status.file_bytes)
    return (status.stream, ago(status.last_record) or "none", fact, lag, file, age, written)


def _is_frame(headers: RecordHeaders | None) -> bool:
    return headers is not None and headers.kind is Kind.FRAME
