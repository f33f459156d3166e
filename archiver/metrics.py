"""The archiver's metrics for Prometheus, and its health; docs/reference/metrics.md explains them.

Values are collected at each request: nothing is counted here.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archiver.core.segmentation import CloseReason
from archiver.event_counters import EventCounters
from archiver.handover.schedule import FollowerStatus
from archiver.recording.status import ArchiveStatus, RecorderStatus
from g3stream.contract.sequence import LossCause
from g3stream.contract.topic_settings import Severity
from g3stream.log.writer import LogStatus
from g3stream.service.metrics import MetricsSnapshot

if TYPE_CHECKING:
    from archiver.suprsync.registration import SupRsyncStatus


def metrics(
    status: ArchiveStatus | None,
    counters: EventCounters,
    log: LogStatus,
    space: os.statvfs_result | None,
    followers: Sequence[FollowerStatus],
    suprsync: "SupRsyncStatus | None",
    now: float,
) -> bytes:
    """Return the metrics in Prometheus' text format.

    status: None before there is an archive.
    space: of the data directory.
    now: seconds since the epoch.
    """
    shown = MetricsSnapshot("g3_archiver_")
    healthy = not any(problems(status, log, now))
    shown.gauge("healthy", "1 if healthy; /healthz says what is wrong.", healthy)
    shown.counter("log_dropped_lines", "Log lines that were dropped, as nothing read them.", log.dropped_lines)
    shown.disk_space("data", "the data directory", space)
    if status:
        for severity in Severity:
            text = "Settings of its topics that aren't as required, by severity."
            count = sum(found.severity is severity for found in status.topic_differences)
            shown.labelled(severity=severity).gauge("topic_differences", text, count)
        text = "Time until Kafka acknowledged a commit of all streams."
        shown.histogram("commit_latency_seconds", text, status.commit_latency)
        text = "Duration of an fsync of an open file."
        shown.histogram("fsync_latency_seconds", text, status.sync_latency)
        text = "Time for which brokers have delayed responses by a quota."
        shown.counter("throttled_seconds", text, status.throttled_s)
    for follower in followers:
        _follower(shown.labelled(sink=follower.sink), follower, now)
    if suprsync:
        _suprsync(shown, suprsync)
    recorders = status.streams if status else ()
    for recorder in recorders:
        _recorder(shown.labelled(stream=recorder.stream), recorder, now)
    for stream in sorted({recorder.stream for recorder in recorders} | counters.streams()):
        _published(shown.labelled(stream=stream), stream, counters)
    return shown.render()


def problems(
    status: ArchiveStatus | None, log: LogStatus, now: float, startup_problem: str | None = None
) -> Iterator[str]:
    """Yield each problem that makes the archiver unhealthy, in words.

    status, now: as for `metrics`.
    startup_problem: that a disk operation hangs at the start, if one does.
    """
    if log.problem:
        yield log.problem
    if status:
        yield from status.problems(now)
    else:
        yield startup_problem or "it is still starting"


def warnings(followers: Sequence[FollowerStatus], suprsync: "SupRsyncStatus | None", now: float) -> Iterator[str]:
    """Yield what needs attention although all that arrives is recorded."""
    yield from (warning for follower in followers if (warning := follower.warning(now, time.monotonic())))
    if suprsync:
        yield from suprsync.warnings(now)


def _suprsync(shown: MetricsSnapshot, suprsync: "SupRsyncStatus") -> None:
    for outcome, count in suprsync.registered.counts.items():
        text = "Events of files, by the outcome of their registration for transfer."
        shown.labelled(outcome=outcome.value).counter("suprsync_files", text, count)
    if suprsync.finalized:
        text = "Everything received before this time is in finished, registered files; absent if not known here."
        shown.gauge("finalized_until_timestamp_seconds", text, suprsync.finalized.time_ms / 1000)


def _follower(shown: MetricsSnapshot, follower: FollowerStatus, now: float) -> None:
    text = "1 if this archiver hands the archive's events over to the sink; 0 if another one does, or none."
    shown.gauge("sink_active", text, follower.active)
    text = "Events that wait to be handed over; 0 if this archiver isn't the active one."
    shown.gauge("sink_backlog_events", text, follower.backlog)
    text = "Age of the oldest event that waits to be handed over; 0 if none waits."
    shown.gauge("sink_backlog_age_seconds", text, follower.age_s(now))
    text = "Duration so far of the sink's present attempt; 0 if there is none."
    shown.gauge("sink_running_seconds", text, follower.running_s(time.monotonic()))
    shown.counter("sink_delivered", "Events that were handed over.", follower.delivered)
    shown.counter("sink_failures", "Failed attempts to hand an event over.", follower.failures)


def _recorder(shown: MetricsSnapshot, recorder: RecorderStatus, now: float) -> None:
    shown.gauge(
        "stopped", "1 if recording has stopped until an operator acts; the log says why.", bool(recorder.halted)
    )
    text = "Duration so far of the stream's recovery after it was assigned; 0 once it is recovered."
    shown.gauge("taking_up_seconds", text, recorder.recovering_s or 0.0)
    text = "Records in the topic that aren't recorded yet; not updated while the stream waits for its disk."
    shown.gauge("lag_records", text, recorder.consumed.lag)
    text = "Time since ingest received the last record that was consumed, if more are in the topic; else 0."
    shown.gauge("lag_seconds", text, recorder.consumed.lag_s(now))
    if recorder.consumed.time_ms:
        text = "When ingest received the last record that was consumed."
        shown.gauge("last_record_timestamp_seconds", text, recorder.consumed.time_ms / 1000)

    text = "Age of the first record that is consumed but not committed; 0 if all are."
    shown.gauge("uncommitted_seconds", text, recorder.uncommitted_s)
    text = "Duration so far of finishing the closing file; 0 if there is none."
    shown.gauge("finishing_seconds", text, recorder.finalizing.total_s if recorder.finalizing else 0.0)

    file = recorder.file
    shown.gauge("open_file_bytes", "Bytes of the open file; 0 if there is none.", file.bytes if file else 0)
    age = max(0.0, now - file.first_ms / 1000) if file else 0.0
    shown.gauge("open_file_age_seconds", "Time since the open file's first frame; 0 if there is none.", age)

    shown.counter("frames", "Data frames that are durable and committed.", recorder.recorded.frames)
    shown.counter("frame_bytes", "Bytes of the frames that are durable and committed.", recorder.recorded.bytes)
    text = "Records that were dropped, as they were recorded already."
    shown.counter("duplicate_records", text, recorder.consumed.duplicates)
    text = "Frames that their sender sent again, left out as they are recorded already; with names by session."
    shown.counter("repeated_frames", text, recorder.recorded.repeated_frames)
    text = "Records that were left out, as an operator has quarantined them."
    shown.counter("quarantined_records", text, recorder.consumed.quarantined)
    text = "How often Kafka's client delivered another record than the next one, which was fetched again."
    shown.counter("misdeliveries", text, recorder.consumed.delivery_faults)
    shown.counter(
        "two_ingests",
        "How often records of two ingests of one stream alternated.",
        recorder.consumed.interleaved_producers,
    )
    text = "Time from a data frame's receipt by ingest until it is durable and committed."
    shown.histogram("durable_latency_seconds", text, recorder.recorded.latency)


def _published(shown: MetricsSnapshot, stream: str, counters: EventCounters) -> None:
    for why in CloseReason:
        shown.labelled(why=why).counter(
            "files_finished",
            "Finished files, by the reason for which they were closed (lost: disconnected).",
            counters.files[stream, why],
        )
    for cause in LossCause:
        text = "How often records were lost, or may have been, by cause."
        shown.labelled(cause=cause).counter("losses", text, counters.losses[stream, cause])
        text = "Records known to be lost, by cause."
        shown.labelled(cause=cause).counter("lost_records", text, counters.lost_records[stream, cause])
    text = "Frames that were never received, as jumps of frame_num show; counted with each file."
    shown.counter("missing_frames", text, counters.missing[stream])
