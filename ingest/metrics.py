"""The metrics of ingest for Prometheus, and its problems for /healthz; explained in docs/reference/metrics.md.

They are made from the streams' status at each request; nothing is counted here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from g3stream.contract.topic_settings import Severity
from g3stream.log.writer import LogStatus
from g3stream.service.metrics import MetricsSnapshot
from g3stream.service.timeouts import DiskSpace
from ingest.status import StoppedStream, StreamStatus


def metrics(
    statuses: Sequence[StreamStatus | StoppedStream], log: LogStatus, spool_dir: Path, disks: DiskSpace, now_s: float
) -> bytes:
    """Return the metrics in Prometheus' text format. spool_dir: of the streams' spools. now_s: s since the epoch."""
    snapshot = MetricsSnapshot("g3_ingest_")
    text = "Log lines that were dropped, as the log's reader was too slow."
    snapshot.counter("log_dropped_lines", text, log.dropped_lines)
    for status in statuses:
        labelled = snapshot.labelled(stream=status.stream)
        healthy = not any(problems([status], log, now_s))
        labelled.gauge("healthy", "1 if nothing is wrong; /healthz says what is.", healthy)
        connected = isinstance(status, StreamStatus) and status.received.peer is not None
        labelled.gauge("connected", "1 if the sender is connected.", connected)
        text = "1 if the sender has sent START, and not END since."
        labelled.gauge("acquiring", text, isinstance(status, StreamStatus) and status.received.acquiring)
        labelled.disk_space("spool_disk", "the spool", disks.of(spool_dir / status.stream))
        if isinstance(status, StreamStatus):
            _add_running(labelled, status, now_s)
    return snapshot.render()


def problems(statuses: Sequence[StreamStatus | StoppedStream], log: LogStatus, now_s: float) -> Iterator[str]:
    """Yield what is wrong, in words; with the stream's name, if there are several. now_s: s since the epoch."""
    if log.problem:
        yield log.problem
    for status in statuses:
        for problem in status.problems(now_s):
            yield f"{status.stream}: {problem}" if len(statuses) > 1 else problem


def _add_running(snapshot: MetricsSnapshot, status: StreamStatus, now_s: float) -> None:
    received, published = status.received, status.published
    snapshot.counter("reconnects", "Connections to the sender after the first.", max(0, received.connections - 1))

    snapshot.counter("frames", "Data frames received, complete and with a valid checksum.", received.frames)
    snapshot.counter("frame_bytes", "Bytes of the data frames received.", received.bytes)
    if received.last_frame_ms is not None:
        text = "When the last data frame was received."
        snapshot.gauge("last_frame_timestamp_seconds", text, received.last_frame_ms / 1000)
    text = "Frames that can't be trusted; they are in the topic of rejected frames."
    snapshot.counter("rejected_frames", text, received.rejected)
    text = "How often reading had to stop, as the spool was full or couldn't be written."
    snapshot.counter("stalls", text, received.backpressure_events)

    snapshot.gauge("spool_bytes", "Bytes of records that wait for Kafka.", status.spool.bytes)
    snapshot.gauge("spool_limit_bytes", "Bytes in the spool at which reading stops.", status.spool.limit_bytes)
    text = "Age of the oldest record that waits for Kafka; 0 if none does."
    snapshot.gauge("spool_oldest_age_seconds", text, status.oldest_unacked_age_s(now_s))
    text = "For how long a write or sync of the spool has been hanging; 0 if none is."
    snapshot.gauge("hanging_seconds", text, status.hang.duration_s if status.hang else 0.0)
    text = "Batches of records in the spool that were given up as damaged."
    snapshot.counter("spool_unreadable_bundles", text, status.spool.unreadable_batches)

    text = "For how long brokers have delayed their responses because of a quota."
    snapshot.counter("throttled_seconds", text, published.throttled_s)
    for severity in Severity:
        text = "Differences of its topics from what they should be, by severity."
        count = sum(found.severity is severity for found in published.topics)
        snapshot.labelled(severity=severity).gauge("topic_differences", text, count)

    text = "From a record's receipt until Kafka has acknowledged it."
    snapshot.histogram("publish_latency_seconds", text, published.latency)
