"""Follower: reads g3.files in order and hands each event of an archive over to a sink (sink.py), at least once.

Beside the recording, in threads and with a consumer of its own: whatever a sink does, recording never waits for it.
The position is what a consumer group of the sink and the archive has committed. So of the archivers of one archive
one does it, another one takes over when that dies, and a restart goes on where the last one was.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from archiver.archive.location import Location
from archiver.handover.delivery import SinkDelivery
from archiver.handover.follower_membership import FollowerMembership
from archiver.handover.saved_position import PositionFile
from archiver.handover.schedule import FollowerStatus
from archiver.handover.sink import Sink

log = logging.getLogger(__name__)

_POLL_S = 0.25
_STOP_S = 6.0
_RESTART_S = 10.0


class Follower:
    """Hands the events of one archive over to a sink, on threads of its own, from `start` to `stop`.

    config: librdkafka's settings. location, group: of the archive. ids: gives the archive's ids once they are known,
    and nothing before. since_ms: if nothing was handed over yet, it begins with the first event published after.
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
        self._file = PositionFile(location, sink.name, config, group)
        self._group = group
        self._ids = ids
        self._sink = sink
        self._since_ms = since_ms
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow {sink.name}", daemon=True)
        self._status = FollowerStatus(sink.name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for its end, after `stop`; for some seconds at most, whatever the sink does."""
        self._thread.join(_STOP_S)

    def stop(self) -> None:
        """Let it end: what is being handed over is aborted, and comes again at the next start. For any thread."""
        self._stopping.set()

    def status(self) -> FollowerStatus:
        """How it is now; for any thread."""
        return self._status

    def _run(self) -> None:
        while not (ids := self._ids()):
            if self._stopping.wait(_POLL_S):
                return
        delivery = SinkDelivery(self._sink, self._file.save)
        while not self._stopping.is_set():
            try:
                membership = FollowerMembership(
                    self._config,
                    self._group,
                    ids,
                    self._sink,
                    delivery,
                    self._file,
                    self._since_ms,
                    self._stopping,
                )
                with membership:
                    while not self._stopping.is_set():
                        membership.poll_once()
                        self._status = membership.status()
            except Exception as error:  # recording goes on, and so must this, whatever it was
                text = f"the hand-over has failed, and begins again in {_RESTART_S:g} s"
                self._status = FollowerStatus(self._sink.name, error=f"{text}: {error}")
                log.exception("%s: %s", self._sink.name, text)
                self._stopping.wait(_RESTART_S)
        delivery.close()
