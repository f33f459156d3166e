"""The relay's metrics and health."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from archiver.relay.live_feed import LiveFeedStatus
from archiver.relay.server import ServerStatus
from g3stream.service.metrics import MetricsSnapshot

PREFIX: Final = "g3_relay_"


@dataclass(frozen=True, slots=True)
class ReadingStatus:
    """What is known of the stream. Times are in ms since the epoch."""

    error: str | None = None
    """Why the stream can't be read now."""
    last_frame_ms: int | None = None
    """When ingest received the last frame that was read."""
    lag_ms: int | None = None
    """How long after that it was read."""
    lost_records: int = 0
    """Records that are missing in what was read."""


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """All that is known."""

    stream: str
    server: ServerStatus | None
    """None before the relay listens."""
    reading: ReadingStatus
    live: LiveFeedStatus | None
    """None with --since."""


def metrics(status: RelayStatus) -> bytes:
    """Return all metrics in Prometheus's text format."""
    shown = MetricsSnapshot(PREFIX)
    view = shown.labelled(stream=status.stream)
    reading, server = status.reading, status.server
    view.gauge("healthy", "1 if /healthz names no problem.", not any(problems(status)))
    if reading.last_frame_ms is not None and reading.lag_ms is not None:
        text = "When ingest received the last frame that was read."
        view.gauge("last_frame_timestamp_seconds", text, reading.last_frame_ms / 1000)
        text = "Time from when ingest received the last frame to when the relay read it."
        view.gauge("lag_seconds", text, reading.lag_ms / 1000)
    view.counter("lost_records_total", "Records that are missing in what was read.", reading.lost_records)
    if status.live:
        view.gauge("buffer_bytes", "Memory that the newest frames take, which all clients share.", status.live.bytes)
        text = "Frames that the slowest client has still to be sent."
        view.gauge("slowest_client_frames", text, status.live.frames_behind)
    if server:
        view.gauge("clients", "Clients that are connected.", server.clients)
        view.counter("sent_frames_total", "Frames that were sent, to all clients together.", server.frames)
        view.counter("sent_bytes_total", "Bytes that were sent, to all clients together.", server.bytes)
        text = "Frames that weren't sent to a client because of --max-rate."
        view.counter("left_out_frames_total", text, server.left_out)
        for reason, count in server.disconnections.items():
            text = "Clients that were disconnected, by reason (docs/operate/relay.md)."
            view.labelled(reason=reason.value).counter("disconnections_total", text, count)
    return shown.render()


def problems(status: RelayStatus) -> Iterator[str]:
    """Yield each problem that keeps the relay from its work, in words."""
    if status.reading.error:
        yield status.reading.error
    elif status.server is None:
        yield "it is still starting"
