"""What ingest reports of its streams on g3.status: made from their status at each interval."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec

from g3stream.contract.program_status import IngestStatus, shortened
from g3stream.host.environment import host_name, now_ms
from g3stream.kafka.status_publisher import StatusPublisher
from ingest.publish.in_flight import without_producer_settings
from ingest.status import StoppedStream, StreamStatus
from ingest.stream import StreamService


def publish_reports(config: Mapping[str, Any], streams: Sequence[StreamService]) -> StatusPublisher:
    """Return the context manager that publishes these streams' reports. config: librdkafka settings of a producer."""
    return StatusPublisher(without_producer_settings(config), IngestReports(streams))


class IngestReports:
    """Makes the reports of the streams of a process."""

    def __init__(self, streams: Sequence[StreamService]) -> None:
        self._streams = streams
        self._started_ms = now_ms()
        self._version = version("g3-recorder")
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._last: dict[str, IngestStatus] = {}

    def __call__(self) -> list[IngestStatus]:
        """Return the present report of each stream."""
        reports = [self._report(stream.status(), now_ms()) for stream in self._streams]
        self._last = {report.stream: report for report in reports}
        return reports

    def _report(self, status: StreamStatus | StoppedStream, now: int) -> IngestStatus:
        report = IngestStatus(
            host=host_name(),
            version=self._version,
            time_ms=now,
            started_ms=self._started_ms,
            problems=shortened([*status.problems(now / 1000)]),
            stream=status.stream,
            source="",
            connected=False,
            since_ms=now,
        )
        if isinstance(status, StoppedStream):
            before = self._last.get(status.stream, report)
            since = now if before.connected else before.since_ms
            return msgspec.structs.replace(report, source=before.source, since_ms=since)
        received = status.received
        return msgspec.structs.replace(
            report,
            source=received.source,
            connected=received.peer is not None,
            since_ms=received.since_ms,
            disconnect_reason=(received.disconnect_reason or "")[:200],
            last_frame_ms=received.last_frame_ms,
            bytes_per_s=round(self._rates[status.stream].update(time.monotonic(), received.bytes), 1),
            spool_bytes=status.spool.bytes,
        )


class Rate:
    """The rate of a total that grows, between two calls."""

    def __init__(self) -> None:
        self._before: tuple[float, int] | None = None

    def update(self, now_s: float, total: int) -> float:
        """Return the growth per second since the call before; 0 at first, and if it shrank. now_s: monotonic."""
        before, self._before = self._before, (now_s, total)
        if before is None or now_s <= before[0]:
            return 0.0
        return max(0, total - before[1]) / (now_s - before[0])
