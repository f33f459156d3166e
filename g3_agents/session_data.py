"""What an agent reports to OCS: session.data, whether it is degraded, numbers for its feed, a message for each event.

Pure, except for `LastErrors`, which is a handler of the log.
"""

import logging
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from archiver.core.events import Event, FileFinished
from archiver.metrics import warnings
from archiver.recording.status import ArchiveStatus, RecorderStatus
from g3_agents.services import Recorder, RecorderState
from ingest.status import StoppedStream, StreamStatus

if TYPE_CHECKING:
    from archiver.suprsync.registration import SupRsyncStatus

HISTORY_LENGTH = 10
"""How many of the last finished files, and of the last errors, are in session.data."""
RATE_WINDOW_SECONDS = 10.0
"""Rates are averages over this time."""
_RECENT_MS = 2000

Data = dict[str, Any]


class LastErrors(logging.Handler):
    """Log handler that keeps the last warnings and errors: [s since the epoch, level, text]."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._entries: deque[list[Any]] = deque(maxlen=HISTORY_LENGTH)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a log record (called by logging)."""
        self._entries.append([round(record.created, 3), record.levelname.lower(), record.getMessage()])

    def latest(self) -> list[list[Any]]:
        """Return the warnings and errors, the oldest first."""
        assert self.lock
        with self.lock:
            return list(self._entries)


class SessionReport:
    """Reports the status of a recorder: with ingest, of its one stream; without, of each stream."""

    def __init__(self, recorder: Recorder, errors: LastErrors) -> None:
        self._recorder = recorder
        self._errors = errors
        self._samples: deque[tuple[float, int, int]] = deque()
        self._files: deque[Data] = deque(maxlen=HISTORY_LENGTH)
        self._finished = 0

    def add_event(self, event: Event, now_s: float) -> Data:
        """Count an event that was published to g3.files. Returns its message for a feed. now_s: s since the epoch."""
        message = {"timestamp": now_s, **event_message(event)}
        if isinstance(event, FileFinished):
            self._finished += 1
            self._files.append({name: message[name] for name in ("timestamp", *_FILE_FIELDS)})
        return message

    def snapshot(self, now_s: float) -> Data:
        """Return state, starts, degraded, data (for session.data), feed and detectors (messages), archive_stats."""
        recorder, suprsync = self._recorder, None
        stream = recorder.ingest.latest_status if recorder.ingest else None
        archive = recorder.archiver.status() if recorder.archiver else None
        problems = self._problems(archive, now_s)
        data: Data = {
            "timestamp": now_s,
            "state": _state_name(recorder.state, stream, archive, now_s),
            "problems": problems,
        }
        feed: list[Data] = []
        recordings = archive.streams if archive else ()
        if recorder.ingest:
            data["stream"] = recorder.ingest.name
        if stream:
            rates = self._rates(stream, now_s)
            data.update(ingest_data(stream), **rates)
            feed.append(feed_message(stream.stream, "ingest", {**ingest_numbers(stream), **rates}, now_s))
        if recorder.archiver:
            if recorder.ingest:
                data.update(archiver_data(recordings[0], now_s) if recordings else _EMPTY_ARCHIVER_DATA)
            else:
                data["streams"] = {r.stream: archiver_data(r, now_s) for r in recordings}
            feed += [
                feed_message(r.stream, "archive", archiver_numbers(r, now_s), now_s, prefixed=not recorder.ingest)
                for r in recordings
            ]
            archiver = recorder.archiver.latest
            followers = archiver.followers.status() if archiver else ()
            suprsync = archiver.followers.suprsync() if archiver else None
            data["warnings"] = list(warnings(followers, suprsync, now_s))
            if suprsync:
                data["suprsync"] = suprsync_data(suprsync)
            data["finished"] = self._finished
            data["last_files"] = list(self._files)
        if recorder.monitored:
            data["monitored"] = recorder.monitored.session_data()
        data["last_errors"] = self._errors.latest()
        return {
            "state": str(recorder.state),
            "starts": recorder.starts,
            "degraded": bool(problems),
            "data": data,
            "feed": feed,
            "detectors": recorder.monitored.take_messages() if recorder.monitored else [],
            "archive_stats": archive_stats(suprsync) if suprsync else None,
        }

    def _problems(self, archive: ArchiveStatus | None, now_s: float) -> list[str]:
        recorder, found = self._recorder, []
        if recorder.state is not RecorderState.RUNNING:
            return []
        if recorder.ingest:
            status = recorder.ingest.status()
            stopped = "ingest isn't running: " if isinstance(status, StoppedStream) else ""
            found += [stopped + problem for problem in status.problems(now_s)]
        if recorder.archiver and recorder.archiver.error:
            found.append(f"archiver isn't running: {recorder.archiver.error}")
        if archive:
            found += [f"archiver: {problem}" for problem in archive.problems(now_s)]
        if recorder.archiver and recorder.ingest and not (archive and archive.streams):
            found.append("archiver: the stream isn't assigned to it yet")
        return found

    def _rates(self, stream: StreamStatus, now_s: float) -> dict[str, float]:
        samples, received = self._samples, stream.received
        if samples and samples[-1][1] > received.frames:
            samples.clear()  # ingest was restarted
        samples.append((now_s, received.frames, received.bytes))
        while now_s - samples[0][0] > RATE_WINDOW_SECONDS:
            samples.popleft()
        since, frames, frames_bytes = samples[0]
        seconds = max(now_s - since, 1.0)
        return {
            "frames_per_second": round((received.frames - frames) / seconds, 3),
            "bytes_per_second": round((received.bytes - frames_bytes) / seconds, 1),
        }


_COUNTS = ("lag_records", "losses", "lost_records", "duplicates", "two_ingests")
_EMPTY_ARCHIVER_DATA = {"file": None, "lag_seconds": 0.0, **dict.fromkeys(_COUNTS, 0)}
"""As `archiver_data`, of a stream of which nothing is known yet."""
_FILE_FIELDS = ("stream", "path", "frames", "bytes", "why", "sha256", "missing")
_INTERNAL_FIELDS = ("checkpoint", "settings", "carry", "first", "last", "closing", "offset", "v")


def event_message(event: Event) -> Data:
    """Return the fields of an event on g3.files, without those that only the archiver needs."""
    whole: Data = msgspec.to_builtins(event)
    return {name: value for name, value in whole.items() if name not in _INTERNAL_FIELDS}


def ingest_data(stream: StreamStatus) -> Data:
    """Return the fields of ingest in session.data."""
    received = stream.received
    return {
        "connection": {
            "source": received.source,
            "peer": received.peer,
            "since": received.since_ms / 1000,
            "connections": received.connections,
            "lost_why": received.disconnect_reason,
        },
        "frames": received.frames,
        "bytes": received.bytes,
        "last_frame": _seconds(received.last_frame_ms),
        "rejected": received.rejected,
        "bad_ids": received.bad_ids,
        "spool": {
            "bytes": stream.spool.bytes,
            "full": stream.spool.full,
            "stalls": received.backpressure_events,
            "unreadable": stream.spool.unreadable_batches,
        },
    }


def ingest_numbers(stream: StreamStatus) -> Data:
    """Return the housekeeping numbers of ingest."""
    received = stream.received
    return {
        "connected": int(received.peer is not None),
        "connections": received.connections,
        "frames": received.frames,
        "bytes": received.bytes,
        "rejected": received.rejected,
        "stalls": received.backpressure_events,
        "spool_bytes": stream.spool.bytes,
    }


def archiver_data(recording: RecorderStatus, now_s: float) -> Data:
    """Return the fields of a stream's recording in session.data."""
    file = recording.file
    return {
        "file": file
        and {
            "path": file.path,
            "since": file.first_ms / 1000,
            "bytes": file.bytes,
            "durable_bytes": file.durable_bytes,
            "frames": file.frames,
            "closing": file.closing and str(file.closing),
        },
        **_lag_and_losses(recording, now_s),
        "duplicates": recording.consumed.duplicates,
        "two_ingests": recording.consumed.interleaved_producers,
    }


def archiver_numbers(recording: RecorderStatus, now_s: float) -> Data:
    """Return the housekeeping numbers of a stream's recording."""
    file = recording.file
    return {
        "recording": int(file is not None),
        "file_bytes": file.bytes if file else 0,
        **_lag_and_losses(recording, now_s),
    }


def _lag_and_losses(recording: RecorderStatus, now_s: float) -> Data:
    return {
        "lag_records": recording.consumed.lag,
        "lag_seconds": recording.consumed.lag_s(now_s),
        "losses": recording.consumed.losses,
        "lost_records": recording.consumed.lost_records,
    }


def suprsync_data(suprsync: "SupRsyncStatus") -> Data:
    """Return the fields of SupRsync's registration in session.data."""
    finalized = suprsync.finalized
    return {
        "finalized_until": _seconds(finalized.time_ms) if finalized else None,
        "held_by": finalized.held_by if finalized else None,
        "num_files": suprsync.num_files,
        "last_file_added": suprsync.registered.last,
    }


def archive_stats(suprsync: "SupRsyncStatus") -> Data | None:
    """Return the message for a feed like that of socs' SupRsync agent; None while nothing is known."""
    if suprsync.finalized is None:
        return None
    return {
        "block_name": suprsync.archive_name,
        "timestamp": suprsync.finalized.asked_ms / 1000,
        "data": {name: value for name, value in suprsync_data(suprsync).items() if name != "held_by"},
    }


def feed_message(stream: str, service: str, numbers: Data, now_s: float, *, prefixed: bool = False) -> Data:
    """Return the message for an aggregated feed with a stream's numbers of ingest or of archiver.

    now_s: s since the epoch. prefixed: prefix each field's name with its stream's, as names must be unique in a feed.
    In InfluxDB the stream is a tag, and the field has its plain name.
    """
    prefix = f"{_field_name(stream)}_" if prefixed else ""
    return {
        "block_name": f"{_field_name(stream)}_{service}",
        "timestamp": now_s,
        "data": {prefix + name: value for name, value in numbers.items()},
        "influxdb_tags": {prefix + name: {"stream": stream, "_field": name} for name in numbers},
    }


def _field_name(stream: str) -> str:
    name = stream.replace("-", "_")
    return name if name[0].isalpha() else f"stream_{name}"


def _state_name(
    state: RecorderState, stream: StreamStatus | None, archive: ArchiveStatus | None, now_s: float
) -> str:
    if state is not RecorderState.RUNNING:
        return str(state)
    if archive and any(recording.file for recording in archive.streams):
        return "recording"
    if stream is None:
        return "waiting"
    if stream.received.peer is None:
        return "not connected"
    lately = stream.received.last_frame_ms is not None and now_s * 1000 - stream.received.last_frame_ms < _RECENT_MS
    return "receiving" if lately else "connected"


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
