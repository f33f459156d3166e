"""What ingest tells Prometheus; docs/monitoring.md says what to make of it.

It is read when it is asked for: nothing is counted here.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from g3stream.contract.topic_settings import Severity
from g3stream.host.disk_space import Disks
from g3stream.service.log_writer import LogStatus
from g3stream.service.metrics import Exposition
from ingest.stream import StreamStatus
from ingest.supervisor import Down


def metrics(
    statuses: Sequence[StreamStatus | Down], log: LogStatus, spool_dir: Path, disks: Disks, now: float
) -> bytes:
    """In Prometheus' text format. spool_dir: the streams' spools are in there. now: s since the epoch."""
    shown = Exposition("g3_ingest_")
    shown.counter("log_dropped_lines", "Lines of the log that whoever reads it didn't.", log.dropped_lines)
    for status in statuses:
        healthy = not any(problems([status], log, now))
        space = disks.space(spool_dir / status.stream)
        _stream(shown.of(stream=status.stream), status, space, now, healthy=healthy)
    return shown.text()


def problems(statuses: Sequence[StreamStatus | Down], log: LogStatus, now: float) -> Iterator[str]:
    """What is wrong, in words; with the stream's name, if there are several. now: s since the epoch."""
    if log.problem:
        yield log.problem
    for status in statuses:
        for problem in status.problems(now):
            yield f"{status.stream}: {problem}" if len(statuses) > 1 else problem


def _stream(
    shown: Exposition, status: StreamStatus | Down, space: os.statvfs_result | None, now: float, *, healthy: bool
) -> None:
    running = status if isinstance(status, StreamStatus) else None
    shown.gauge("healthy", "1 if nothing is wrong; /healthz says what is.", healthy)
    shown.gauge("connected", "1 if the sender is connected.", running is not None and running.peer is not None)
    text = "1 if the sender has said START, and not END since."
    shown.gauge("acquiring", text, running is not None and running.acquiring)
    shown.disk("spool_disk", "the spool", space)
    if running:
        _running(shown, running, now)


def _running(shown: Exposition, status: StreamStatus, now: float) -> None:
    shown.counter("reconnects", "Connections to the sender after the first.", max(0, status.connections - 1))

    shown.counter("frames", "Data frames received, whole and with a good checksum.", status.frames)
    shown.counter("frame_bytes", "Bytes of the data frames received.", status.bytes)
    if status.last_frame is not None:
        text = "When the last data frame was received."
        shown.gauge("last_frame_timestamp_seconds", text, status.last_frame / 1000)
    text = "Frames that can't be trusted; they went to the topic of rejected frames."
    shown.counter("rejected_frames", text, status.rejected)
    text = "How often reading had to stop, as the spool was full or couldn't be written."
    shown.counter("stalls", text, status.stalls)

    shown.gauge("spool_bytes", "Bytes of records that wait for Kafka.", status.spool_bytes)
    shown.gauge("spool_limit_bytes", "Bytes in the spool at which reading stops.", status.spool_limit)
    text = "Age of the oldest record that waits for Kafka; 0 if none does."
    shown.gauge("spool_oldest_age_seconds", text, status.oldest_age(now))
    text = "For how long a write to the spool, or a sync of it, has hung; 0 if none takes long."
    shown.gauge("hanging_seconds", text, status.hang.seconds if status.hang else 0.0)
    text = "Bundles of records in the spool that were given up as damaged."
    shown.counter("spool_unreadable_bundles", text, status.spool_unreadable)

    text = "For how long brokers have held answers back, by a quota."
    shown.counter("throttled_seconds", text, status.throttled_seconds)
    for severity in Severity:
        text = "How many things of its topics aren't as they are to be, by what that means for recording."
        count = sum(found.severity is severity for found in status.topics)
        shown.of(severity=severity).gauge("topic_differences", text, count)

    text = "From a record's receipt until Kafka has acknowledged it."
    shown.latency("publish_latency_seconds", text, status.latency)
