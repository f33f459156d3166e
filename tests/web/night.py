"""A night of five streams with all that can go wrong, recorded by a real archiver in seconds; then it goes on, live.

The records have the times that a night's would have, so the archiver makes the night's files. The ingests' reports
are ours, so that one of them can have died minutes ago.
"""

import math
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from confluent_kafka import Producer

from g3stream.contract.program_status import INTERVAL_S, IngestStatus, encode
from g3stream.contract.topics import STATUS_TOPIC
from g3stream.kafka.status_publisher import create_status_topic
from g3stream.kafka.topic_admin import TopicAdmin
from testbed.child_process import free_port
from tests.support.archives import Source, all_committed
from tests.support.processes import SECONDS, Program, Recorder, eventually, get

_MINUTE: Final = 60_000
_FRAME_MS: Final = 30_000
_DIED_MS: Final = 6 * _MINUTE
"""So long ago the dead ingest died."""
_REPORTS_MS: Final = 9 * _MINUTE
"""So far back go the ingests' reports, for the lines of the last ten minutes."""


class Observation(NamedTuple):
    """What all streams record together."""

    minutes_ago: int
    minutes: int


SHORT: Final = (Observation(150, 25), Observation(90, 25), Observation(35, 35))
WHOLE: Final = (
    *(Observation(575, 62), Observation(500, 118), Observation(372, 31), Observation(335, 150)),
    Observation(150, 150),
)


class Names(NamedTuple):
    """The streams, by what happens to them. `well` misses three frames, or else all is well with it."""

    well: str
    lossy: str
    gap: str
    disconnected: str
    dead: str


class Night:
    """The night; until the end of the `with` block it goes on. The last observation is open.

    streams: all of the recorder. frame_bytes: the size of each frame, of which there are two in a minute.
    """

    def __init__(
        self, recorder: Recorder, streams: Names, observations: Sequence[Observation] = SHORT, frame_bytes: int = 1000
    ) -> None:
        self.streams = streams
        self._recorder = recorder
        self._frame_bytes = frame_bytes
        self._sources = {stream: Source(recorder.servers, stream, epochs=0) for stream in streams}
        self._live = [stream for stream in streams if stream != streams.dead]
        self._reports = Producer({"bootstrap.servers": recorder.servers})
        self._began_ms = round(time.time() * 1000)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="night")
        create_status_topic(TopicAdmin({"bootstrap.servers": recorder.servers}))
        for stream in streams:
            recorder.create_topic(stream)
        others = [flag for stream in streams if stream != recorder.stream for flag in ("--stream", stream)]
        recorder.archiver("--time-per-file", "600", *others)
        for stream in streams:
            for observation in observations:
                self._publish(stream, observation, is_last=observation is observations[-1])
        for ago_ms in range(_REPORTS_MS, 0, -round(INTERVAL_S * 1000)):
            self._report(self._began_ms - ago_ms, [*streams] if ago_ms > _DIED_MS else self._live)
        eventually(
            lambda: all_committed(recorder, [*self._sources.values()]), "the night is recorded", seconds=4 * SECONDS
        )

    def web(self, port: int | None = None, *arguments: str) -> "Web":
        """Start the page of the archive. port: a free one if None. arguments: further ones."""
        return Web(self._recorder, self.streams, port or free_port(), *arguments)

    def files(self) -> list[Path]:
        """Return the archive's finished files."""
        return self._recorder.files()

    def end(self, stream: str) -> None:
        """End the open acquisition of a live stream."""
        with self._lock:
            self._live.remove(stream)
            self._sources[stream].now = round(time.time() * 1000)
            self._sources[stream].end()

    def start(self, stream: str) -> None:
        """Start an acquisition of that stream."""
        with self._lock:
            self._sources[stream].now = round(time.time() * 1000)
            self._sources[stream].start()
            self._live.append(stream)

    def _publish(self, stream: str, observation: Observation, *, is_last: bool) -> None:
        source = self._sources[stream]
        source.now = self._began_ms - observation.minutes_ago * _MINUTE
        source.session = source.now // 1000
        source.start()
        is_dead = is_last and stream == self.streams.dead
        until_ms = source.now + observation.minutes * _MINUTE - is_dead * _DIED_MS
        middle = (until_ms - source.now) // _FRAME_MS // 2
        source.scans(middle, self._frame_bytes, _FRAME_MS)
        if not is_last:
            self._disturb(stream, source)
        source.scans(max(0, (until_ms - source.now) // _FRAME_MS), self._frame_bytes, _FRAME_MS)
        if not is_last:
            source.end()

    def _disturb(self, stream: str, source: Source) -> None:
        if stream == self.streams.well:
            source.skip(3)
        elif stream == self.streams.lossy:
            source.lose(7)
        elif stream == self.streams.gap:
            source.now += 5 * _MINUTE
        elif stream == self.streams.disconnected:
            source.lost()
            source.now += 4 * _MINUTE
            source.restart()
            source.start()

    def _report(self, time_ms: int, streams: Sequence[str]) -> None:
        """Publish the reports of these streams' ingests at a time."""
        for number, stream in enumerate(self.streams):
            if stream not in streams:
                continue
            # So slow that no test's disk would be full within a day, which is a problem that the page shows.
            rate = 9e4 + 1e4 * math.sin(time_ms / 5e4 + number) + 5e3 * math.sin(time_ms / 9e3 * (number + 1))
            report = IngestStatus(
                host=f"daq{number // 3 + 1}",
                version="0.1.0",
                time_ms=time_ms,
                started_ms=self._began_ms - 3_600_000,
                bytes_per_s=rate,
                stream=stream,
                source=f"smurf-srv{number + 1:02d}:4532",
                connected=True,
                since_ms=self._began_ms - 3_600_000,
                last_frame_ms=time_ms,
            )
            self._reports.produce(STATUS_TOPIC, encode(report), report.key.encode(), partition=0, timestamp=time_ms)
        assert self._reports.flush(SECONDS) == 0

    def _go_on(self) -> None:
        reported = 0.0
        while not self._over.wait(0.5):
            if time.monotonic() - reported > INTERVAL_S:
                reported = time.monotonic()
                self._report(round(time.time() * 1000), [it for it in self.streams if it != self.streams.dead])
            with self._lock:
                for stream in self._live:
                    self._sources[stream].now = round(time.time() * 1000)
                    self._sources[stream].scans(1, 1000)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()


class Web:
    """A running `archiver web` of the night's archive."""

    def __init__(self, recorder: Recorder, streams: Sequence[str], port: int, *arguments: str) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        chosen = [flag for stream in streams for flag in ("--stream", stream)]
        whose = ["--group", f"{recorder.stream}.archive", "--data-dir", str(recorder.data())]
        self._program: Program = recorder.start("archiver", "web", "--http", str(port), *whose, *chosen, *arguments)
        self._program.await_line("the page is at")
        eventually(lambda: get(port, "/healthz")[0] == 200, "the page is live")

    def stop(self) -> None:
        """Stop it."""
        assert self._program.stop() == 0
