"""What an archiver tells Prometheus; docs/monitoring.md says what to make of it.

It is read when it is asked for: nothing is counted here.
"""

import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from archiver.core.segmentation import CloseReason
from archiver.core.sequence import LossCause
from archiver.event_counters import EventCounters
from archiver.handover.schedule import FollowerStatus
from archiver.recording.status import ArchiveStatus, RecorderStatus
from g3stream.contract.topic_settings import Severity
from g3stream.host.activity import Hang
from g3stream.service.log_writer import LogStatus
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
    """In Prometheus' text format. status: None before there is an archive. space: of the data directory. now: s since
    the epoch."""
    shown = MetricsSnapshot("g3_archiver_")
    healthy = not any(problems(status, log, now))
    shown.gauge("healthy", "1 if nothing is wrong; /healthz says what is.", healthy)
    shown.counter("log_dropped_lines", "Lines of the log that whoever reads it didn't.", log.dropped_lines)
    shown.disk_space("data", "the data directory", space)
    if status:
        for severity in Severity:
            text = "How many things of its topics aren't as they are to be, by what that means for recording."
            count = sum(found.severity is severity for found in status.topic_differences)
            shown.labelled(severity=severity).gauge("topic_differences", text, count)
        text = "Until Kafka had answered a commit, of all streams together."
        shown.histogram("commit_latency_seconds", text, status.commit_latency)
        text = "Until the disk had taken what was written to an open file."
        shown.histogram("fsync_latency_seconds", text, status.sync_latency)
        text = "For how long brokers have held answers back, by a quota."
        shown.counter("throttled_seconds", text, status.throttled_s)
    for follower in followers:
        _follower(shown.labelled(sink=follower.sink), follower, now)
    if suprsync:
        _suprsync(shown, suprsync)
    recordings = status.streams if status else ()
    for recorder in recordings:
        _recorder(shown.labelled(stream=recorder.stream), recorder, now)
    for stream in sorted({recorder.stream for recorder in recordings} | counters.streams()):
        _published(shown.labelled(stream=stream), stream, counters)
    return shown.render()


def problems(
    status: ArchiveStatus | None, log: LogStatus, now: float, startup_hang: Hang | None = None
) -> Iterator[str]:
    """What is wrong, in words. status, now: as for `metrics`. startup_hang: what keeps it from beginning, if
    that hangs."""
    if log.problem:
        yield log.problem
    if status:
        yield from status.problems(now)
    elif startup_hang:
        yield f"the data disk doesn't answer: {startup_hang.what} has taken {startup_hang.duration_s:.0f} s"
    else:
        yield "it hasn't begun yet"


def warnings(followers: Sequence[FollowerStatus], suprsync: "SupRsyncStatus | None", now: float) -> Iterator[str]:
    """What somebody should see to, though all that comes is recorded."""
    yield from (warning for follower in followers if (warning := follower.warning(now, time.monotonic())))
    if suprsync:
        yield from suprsync.warnings(now)


def _suprsync(shown: MetricsSnapshot, suprsync: "SupRsyncStatus") -> None:
    for outcome, count in suprsync.registered.counts.items():
        text = "Files' events, by what became of their registration for transfer."
        shown.labelled(outcome=outcome.value).counter("suprsync_files", text, count)
    if suprsync.finalized:
        text = "All that was received before is in finished files that are registered; absent if not known here."
        shown.gauge("finalized_until_timestamp_seconds", text, suprsync.finalized.time_ms / 1000)


def _follower(shown: MetricsSnapshot, follower: FollowerStatus, now: float) -> None:
    text = "1 if this archiver hands the archive's events over to the sink; 0 if another one does, or none."
    shown.gauge("sink_active", text, follower.active)
    text = "Events that wait to be handed over; 0 where it isn't active."
    shown.gauge("sink_backlog_events", text, follower.backlog)
    text = "Time since the oldest event that waits was published; 0 if none waits."
    shown.gauge("sink_backlog_age_seconds", text, follower.age_s(now))
    text = "For how long the sink has been at its present attempt; 0 if it is at none."
    shown.gauge("sink_running_seconds", text, follower.running_s(time.monotonic()))
    shown.counter("sink_delivered", "Events that were handed over.", follower.delivered)
    shown.counter("sink_failures", "Attempts to hand an event over that failed.", follower.failures)


def _recorder(shown: MetricsSnapshot, recorder: RecorderStatus, now: float) -> None:
    shown.gauge("stopped", "1 if recording has stopped for good; the log says why.", bool(recorder.halted))
    text = (
        "For how long it has been looked at from where to go on, after the stream was assigned; 0 once it is known."
    )
    shown.gauge("taking_up_seconds", text, recorder.recovering_s or 0.0)
    text = "Records in the topic that aren't recorded yet; too few while a stream waits for its disk, and isn't read."
    shown.gauge("lag_records", text, recorder.lag)
    text = "Time since ingest received the last record that was taken, if there are others in the topic; else 0."
    shown.gauge("lag_seconds", text, recorder.lag_s(now))
    if recorder.time_ms:
        text = "When ingest received the last record that was taken."
        shown.gauge("last_record_timestamp_seconds", text, recorder.time_ms / 1000)

    text = "For how long the first record that was taken and isn't committed has waited for that; 0 if all are."
    shown.gauge("uncommitted_seconds", text, recorder.uncommitted_s)
    text = "For how long the file that has ended is being finished; 0 if none is."
    shown.gauge("finishing_seconds", text, recorder.finalizing.total_s if recorder.finalizing else 0.0)

    file = recorder.file
    shown.gauge("open_file_bytes", "Bytes of the file that is open; 0 if none is.", file.bytes if file else 0)
    age = max(0.0, now - file.first_ms / 1000) if file else 0.0
    shown.gauge("open_file_age_seconds", "Time since its first frame; 0 if none is open.", age)

    shown.counter("frames", "Data frames that are durable and committed.", recorder.frames)
    shown.counter("frame_bytes", "Bytes of the frames that are durable and committed.", recorder.bytes)
    text = "Records that were dropped, as they had been recorded before."
    shown.counter("duplicate_records", text, recorder.duplicates)
    text = "Frames that their sender sent again, left out as they are recorded; with names by session."
    shown.counter("repeated_frames", text, recorder.repeated_frames)
    text = "Records that were left out, as an operator has put them into quarantine."
    shown.counter("quarantined_records", text, recorder.quarantined)
    text = "How often Kafka's client delivered another record than the next, which was asked for again."
    shown.counter("misdeliveries", text, recorder.delivery_faults)
    shown.counter("two_ingests", "How often two ingests of one stream took turns.", recorder.interleaved_producers)
    text = "From a data frame's receipt by ingest until it is durable and committed."
    shown.histogram("durable_latency_seconds", text, recorder.latency)


def _published(shown: MetricsSnapshot, stream: str, counters: EventCounters) -> None:
    for why in CloseReason:
        shown.labelled(why=why).counter("files_finished", "Files, by what ended them.", counters.files[stream, why])
    for cause in LossCause:
        text = "How often records were lost, or may have been, by what took them."
        shown.labelled(cause=cause).counter("losses", text, counters.losses[stream, cause])
        text = "Records known to be lost, by what took them."
        shown.labelled(cause=cause).counter("lost_records", text, counters.lost_records[stream, cause])
    text = "Frames that were never received, as jumps of frame_num say; counted with each file."
    shown.counter("missing_frames", text, counters.missing[stream])
