"""archiver, topic → durable file, against kcat and a bare loop; and the commands replay and verify.

Measured is the time from the first bytes in the file, which aren't counted, until all are durable; for verify and
sha256sum the whole command. All contestants read the same topic, which is in the page cache.
"""

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.contestants.kcat import Kcat
from bench.load.frames import Frames
from bench.measure.process_cost import ContestError, Measured, Used
from bench.report.results import BROKER, Goal, Line, Run, least, line, of, sizes_of
from bench.scenarios.site import Growing, Site, program, settle
from g3stream.contract.topics import frames_topic

PART = "archiver"
_POLL_SECONDS = 0.005

_LINES: Sequence[tuple[str, str, str, Goal | None]] = (
    ("archiver: topic → durable file", "ours", "kcat; sync", least(1.5)),
    ("", "ours", "bare loop", least(0.9)),
    ("… and SHA-256, name, event", "finished", "bare loop", None),
    ("archiver replay", "replay", "bare loop", least(0.8)),
    ("archiver verify", "verify", "sha256sum", None),
)


class Archiving:
    """The contestants on one stream that has the frames. kcat: None if it isn't available."""

    def __init__(self, site: Site, frames: Frames, stream: str, kcat: Kcat | None) -> None:
        self._kcat = kcat
        self._site = site
        self._frames = frames
        self._stream = stream
        self._total = frames.times(site.total) * len(frames.unit)

    def contestants(self) -> list[Callable[[], list[Run]]]:
        """Return all contestants."""
        found = [self.ours, self.bare, self.replay]
        return [self.kcat, *found] if self._kcat else found

    def ours(self) -> list[Run]:
        """Run the archiver until all bytes are durable in the partial, and until it is finished; then verify."""
        data = self._site.new_path("data")
        with self._site.archiver(self._stream, data) as archiver:
            file = Growing(data, archiver)
            archiver.begin()
            begun, there, before = time.time(), file.size, self._site.broker_cpu()
            file.await_size(self._total)
            file.sync()
            written = time.time() - begun
            used = {"archiver": archiver.used(), BROKER: self._site.broker_used(before)}
            finished = archiver.await_log(" finished ") - begun
            used_at_end = {"archiver": archiver.used(), BROKER: self._site.broker_used(before)}
            archiver.end()
        file.close()
        found = [self._run("ours", written, used, there), self._run("finished", finished, used_at_end, there)]
        path = self._whole_file(data)
        found += self._verify(data, path)
        path.unlink()
        return found

    def bare(self) -> list[Run]:
        """Run the bare loop."""
        path = self._site.new_path("bare")
        settle()
        topic = frames_topic(self._stream)
        with program(
            "bench.contestants.bare", "archiver", self._site.servers, topic, str(self._total), str(path)
        ) as loop:
            loop.line()
            before = self._site.broker_cpu()
            measured = json.loads(loop.line())
            used = Used(loop.used().anonymous_bytes, measured["cpu_seconds"])
            broker = self._site.broker_used(before)
        path.unlink()
        return [self._run("bare loop", measured["seconds"], {"bare": used, BROKER: broker})]

    def kcat(self) -> list[Run]:
        """Run kcat with its default settings into a file, and sync that file."""
        assert self._kcat
        path = self._site.new_path("kcat")
        settle()
        command = [
            str(self._kcat.executable),
            "-b",
            self._site.servers,
            "-C",
            "-t",
            frames_topic(self._stream),
            "-o",
            "beginning",
        ]
        with path.open("wb") as file:
            with Measured([*command, "-e", "-q", "-f", "%s"], stdout=file, env=self._kcat.environment) as process:
                while not os.fstat(file.fileno()).st_size:
                    if not process.running:
                        raise ContestError("kcat wrote nothing")
                    time.sleep(_POLL_SECONDS)
                process.begin()
                begun, before = time.time(), self._site.broker_cpu()
                there = os.fstat(file.fileno()).st_size
                process.wait()
                os.fdatasync(file.fileno())
                seconds = time.time() - begun
                used = {"kcat": process.used(), BROKER: self._site.broker_used(before)}
            size = os.fstat(file.fileno()).st_size
        path.unlink()
        if size < self._total:
            raise ContestError(f"kcat wrote {size} of {self._total} bytes")
        return [self._run("kcat; sync", seconds, used, there)]

    def replay(self) -> list[Run]:
        """Run archiver replay to its end: the file is synced, has its checksum and its name."""
        data = self._site.new_path("data")
        settle()
        with Measured(self._site.archiver_command(self._stream, data, "replay")) as process:
            file = Growing(data, process)
            process.begin()
            begun, there, before = time.time(), file.size, self._site.broker_cpu()
            process.wait()
            seconds = time.time() - begun
            used = {"replay": process.used(), BROKER: self._site.broker_used(before)}
        file.close()
        self._whole_file(data).unlink()
        return [self._run("replay", seconds, used, there)]

    def _verify(self, data: Path, path: Path) -> list[Run]:
        """Run `archiver verify` and `sha256sum` on a file in the page cache."""
        digest = ["sha256sum", str(path)]
        with Measured(digest) as process:
            process.wait()
        found = []
        for who, command in (
            ("verify", self._site.archiver_command(self._stream, data, "verify")),
            ("sha256sum", digest),
        ):
            begun = time.perf_counter()
            with Measured(command) as process:
                process.wait()
                found.append(self._run(who, time.perf_counter() - begun, {who: process.used()}))
        return found

    def _whole_file(self, data: Path) -> Path:
        (path,) = data.glob("[0-9]*/*/*.g3")
        if path.stat().st_size != self._total:
            raise ContestError(f"{path} has {path.stat().st_size} bytes, not {self._total}")
        return path

    def _run(self, who: str, seconds: float, used: dict[str, Used], there: int = 0) -> Run:
        return Run(PART, who, self._frames.name, self._total - there, seconds, used)


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return the lines for each contest and frame size."""
    found = []
    for what, who, against, goal in _LINES:
        for size in sizes_of(runs, PART):
            ours, others = of(runs, PART, who, size), of(runs, PART, against, size)
            found += line(what or _LINES[0][0], ours, others, against=against, goal=goal)
    return found
