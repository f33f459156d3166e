"""Collects what Kafka knows of an archive: its topics and commits, and the programs' reports on g3.status."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from confluent_kafka import KafkaException

from archiver.core.checkpoint import CheckpointError, decode
from archiver.kafka.report_log import ReportLog
from archiver.kafka.topic_reader import OffsetAndMetadata, SingleConsumerReader
from archiver.kafka.topic_tail import PARTITION_BYTES, TailRecord, TopicTails, open_tails, repeat_if_deleted
from archiver.status.evidence import Evidence
from archiver.status.stream_status import Status, is_frame, status_of
from g3stream.contract.program_status import ArchiverStatus, IngestStatus, Report, VerifyStatus
from g3stream.contract.topic_settings import describe_other_partitions
from g3stream.contract.topics import FILES_TOPIC, frames_topic
from g3stream.kafka.client_config import AVAILABILITY_CONFIG
from g3stream.kafka.errors import is_refusal
from g3stream.kafka.topic_admin import TopicAdmin

_REQUEST_SECONDS = 10.0
_LAST_RECORDS = 8
"""Of a stream that is recorded, fewer are newer than its commit, unless its frames are small and many."""
_MAX_BYTES = 1 << 20
"""At most so much of a stream is read back beyond these."""


class EvidenceCollector:
    """Collects evidence, as often as it is called, with the same two clients. A context manager; for one thread."""

    def __init__(self, config: Mapping[str, Any], group: str, wanted: Sequence[str] = ()) -> None:
        """config: librdkafka's settings. wanted: the streams; all, if none is named. Raises KafkaException."""
        self._wanted = wanted
        kept_config = {**AVAILABILITY_CONFIG, **config}
        self._admin = TopicAdmin(kept_config)
        self._reader = SingleConsumerReader(kept_config, group, PARTITION_BYTES)
        self._reports = ReportLog(self._reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.__exit__(*error)

    def collect(self) -> Evidence:
        """Return what is known now. Raises KafkaException."""
        group = self._reader.group
        with open_tails(self._reader, self._admin) as tails:
            found = repeat_if_deleted(lambda: self._statuses(tails))
        new_reports, are_hidden = self._new_reports()
        reports = () if are_hidden else self._reports.last.values()
        names = {status.stream for status in found}
        return Evidence(
            group,
            found,
            {it.stream: it for it in reports if isinstance(it, IngestStatus) and it.stream in names},
            {it.instance: it for it in reports if isinstance(it, ArchiverStatus) and it.group == group},
            self._copies({FILES_TOPIC, *map(frames_topic, names)}),
            next((it for it in reports if isinstance(it, VerifyStatus) and it.group == group), None),
            are_hidden,
            new_reports,
        )

    def _new_reports(self) -> tuple[list[Report], bool]:
        """Return the reports since the last call, and whether ACLs hide them. Raises KafkaException."""
        try:
            return self._reports.read_new(), False
        except KafkaException as error:
            if not is_refusal(error.args[0]):
                raise
            return [], True

    def _statuses(self, tails: TopicTails) -> list[Status]:
        """Return the status of each stream that is wanted. Raises KafkaException."""
        reader, wanted = self._reader, self._wanted
        topics = tails.streams()
        reader.check_not_hidden(sorted(set(wanted) - topics.keys()))
        good = [stream for stream in topics if not wanted or stream in wanted]
        # In this order: records are published and committed meanwhile, none is committed before it is in the topic.
        commits = reader.committed(good)
        spans = tails.offset_ranges(good)
        last_records = _last_records(tails, spans, commits)
        behind = {}  # by stream that lags: the range of the first record that isn't recorded, if it isn't read yet
        for stream, commit in commits.items():
            first, end = spans[stream]
            at = max(first, commit.offset)
            if at < end and not (last_records[stream] and last_records[stream][0].offset <= at):
                behind[stream] = at, at + 1
        next_records = tails.read(behind)
        elsewhere = tails.other_partitions({stream: topics[stream] for stream in good})
        found = []
        for stream in sorted(set(wanted)) or topics:
            if stream not in topics:
                problem = "it has no topic: no ingest has published yet"
                found.append(Status(stream=stream, group=reader.group, problem=problem))
                continue
            records, committed = last_records[stream], commits.get(stream)
            not_recorded = [it for it in records if committed and it.offset >= committed.offset]
            next_ones = next_records.get(stream) or not_recorded  # at a commit there may be a transaction's marker
            status = status_of(stream, reader.group, spans[stream], records, committed, next_ones)
            if (others := elsewhere.get(stream)) and not status.problem:
                status.problem = f"its topic has {describe_other_partitions(others)}"
            found.append(status)
        return found

    def _copies(self, topics: set[str]) -> dict[str, tuple[int, int]]:
        """Return the topics of which copies aren't in sync, with the numbers of those that are, and of all."""
        found = {}
        for name, topic in self._admin.client.list_topics(timeout=_REQUEST_SECONDS).topics.items():
            partition = topic.partitions.get(0)
            if name in topics and partition and len(partition.isrs) < len(partition.replicas):
                found[name] = len(partition.isrs), len(partition.replicas)
        return found


def _last_records(
    tails: TopicTails, spans: Mapping[str, tuple[int, int]], commits: Mapping[str, OffsetAndMetadata]
) -> Mapping[str, list[TailRecord]]:
    """Read the last records of each stream, as few as its status needs. Raises KafkaException.

    They reach back to its last record that is no frame, or to the commit of an open file, whose checkpoint has what
    was before: a few records, usually. (To look for the START of an acquisition took 8 MB of each stream that is
    recording.)
    """
    starts = {stream: _start(span, commits.get(stream)) for stream, span in spans.items()}
    blocks = {stream: (start, spans[stream][1]) for stream, start in starts.items()}
    read = tails.read(blocks)
    found = {stream: read.get(stream, []) for stream in spans}
    opened = {stream for stream, commit in commits.items() if _has_open_file(stream, commit)}

    def are_enough(stream: str, records: Sequence[TailRecord]) -> bool:
        if any(not is_frame(record.headers) for record in records):
            return True
        return bool(records) and stream in opened and commits[stream].offset >= records[0].offset

    unknown = {s: (spans[s][0], starts[s]) for s in spans if not are_enough(s, found[s])}
    before = tails.read_back(unknown, are_enough, _MAX_BYTES)
    return {stream: [*before.get(stream, ()), *records] for stream, records in found.items()}


def _start(span: tuple[int, int], commit: OffsetAndMetadata | None) -> int:
    """Return the offset of the first record to be read at first: at the commit, but one at least, and few."""
    first, end = span
    return max(first, end - _LAST_RECORDS, min(commit.offset if commit else 0, end - 1))


def _has_open_file(stream: str, commit: OffsetAndMetadata) -> bool:
    try:
        return bool(commit.metadata) and decode(commit.metadata, stream).partial is not None
    except CheckpointError:
        return False
