"""Follower: reads g3.files in order and hands each event of an archive over to a sink (sink.py), at least once.

It has threads and a consumer of its own: whatever a sink does, recording never waits for it. Its position is the
committed offset of a consumer group, one for each sink and archive. So one of the archivers does the hand-over,
another takes over when that one dies, and a restart continues at the committed position.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from archiver.archive.location import Location
from archiver.handover.delivery import SinkDelivery
from archiver.handover.follower_membership import FollowerMembership
from archiver.handover.saved_position import StartPosition
from archiver.handover.schedule import FollowerStatus
from archiver.handover.sink import Sink
from g3stream.service.supervisor import Backoff, supervise

log = logging.getLogger(__name__)

_POLL_S = 0.25
_STOP_S = 6.0
_BACKOFF = Backoff(min_s=10.0, max_s=10.0, stable_s=0.0)


class Follower:
    """Hands the events of one archive over to a sink, on threads of its own, from `start` to `stop`.

    config: librdkafka's settings. location, group: of the archive. ids: returns the archive's ids; empty while they
    aren't known yet. since_ms: if nothing was ever handed over, it begins with the first event published since then.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        location: Location,
        group: str,
        ids: Callable[[], tuple[str, ...]],
        sink: Sink,
        since_ms: int,
    ) -> None:
        self._config = config
        self._start = StartPosition(location, sink.name, config, group, since_ms)
        self._group = group
        self._ids = ids
        self._sink = sink
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {sink.name}", daemon=True)
        self._status = FollowerStatus(sink.name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end after `stop`, for some seconds at most, whatever the sink does."""
        self._thread.join(_STOP_S)

    def stop(self) -> None:
        """Make it end: the running attempt is aborted, and repeated at the next start. For any thread."""
        self._stopping.set()

    def status(self) -> FollowerStatus:
        """Return its present status; for any thread."""
        return self._status

    def _run(self) -> None:
        while not (ids := self._ids()):
            if self._stopping.wait(_POLL_S):
                return
        delivery = SinkDelivery(self._sink, self._start.save)
        supervise(partial(self._follow, ids, delivery), _BACKOFF, self._stopping, self._on_failure)

    def _follow(self, ids: tuple[str, ...], delivery: SinkDelivery) -> None:
        config, group, stopping = self._config, self._group, self._stopping
        with FollowerMembership(config, group, ids, self._sink, delivery, self._start, stopping) as membership:
            while not stopping.is_set():
                membership.poll_once()
                self._status = membership.status()

    def _on_failure(self, error: Exception, next_step: str) -> None:
        text = f"the hand-over has failed{next_step}"
        self._status = FollowerStatus(self._sink.name, error=f"{text}: {error}")
        log.error("%s: %s", self._sink.name, text, exc_info=error)
