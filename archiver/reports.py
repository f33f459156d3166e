"""What an archiver reports of itself on g3.status: made from its status at each interval."""

import time
from collections import deque
from collections.abc import Callable
from importlib.metadata import version

from archiver.archive.root import ArchiveRoot
from archiver.recording.status import ArchiveStatus
from g3stream.contract.program_status import ARCHIVER_RATE_MS, ArchiverStatus, shortened
from g3stream.host.environment import host_name, now_ms
from g3stream.service.timeouts import DiskSpace

_RATE_SECONDS = ARCHIVER_RATE_MS / 1000


class ArchiverReports:
    """Makes an archiver's reports. instance: its name in the group. status: returns its present status."""

    def __init__(self, archive: ArchiveRoot, instance: str, status: Callable[[], ArchiveStatus | None]) -> None:
        self._archive = archive
        self._instance = instance
        self._status = status
        self._started_ms = now_ms()
        self._version = version("g3-recorder")
        self._disk = DiskSpace()
        self._recorded: dict[str, int] = {}
        self._growth: deque[tuple[float, int]] = deque()

    def __call__(self) -> list[ArchiverStatus]:
        """Return the present report."""
        now = now_ms()
        status, location = self._status(), self._archive.location
        space = self._disk.of(location.data_dir)
        report = ArchiverStatus(
            host=host_name(),
            version=self._version,
            time_ms=now,
            started_ms=self._started_ms,
            group=self._archive.group,
            instance=self._instance,
            data_dir=str(location.data_dir.absolute()),
            streams=tuple(sorted(it.stream for it in status.streams)) if status else (),
            disk_free_bytes=space.f_bavail * space.f_frsize if space else None,
            bytes_per_s=round(self._rate(status, time.monotonic()), 1),
            problems=shortened([*status.problems(now / 1000)]) if status else (),
        )
        return [report]

    def _rate(self, status: ArchiveStatus | None, now_s: float) -> float:
        """Return the bytes recorded per second; a stream that was assigned again counts from 0 again."""
        grown = 0
        for recorder in status.streams if status else ():
            total = recorder.recorded.bytes
            grown += max(0, total - self._recorded.get(recorder.stream, 0))
            self._recorded[recorder.stream] = total
        self._growth.append((now_s, grown))
        while now_s - self._growth[0][0] > _RATE_SECONDS:
            self._growth.popleft()
        seconds = now_s - self._growth[0][0]
        return sum(size for _, size in list(self._growth)[1:]) / seconds if seconds else 0.0
