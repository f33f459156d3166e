"""The temporary error, of a disk or of Kafka, that keeps a stream from being written."""

import logging
import time

from confluent_kafka import KafkaException

from archiver.segments.segment_file import SyncError
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)


class WriteErrors:
    """The present error of a stream. For the loop's thread; `current` and `shown` are thread-safe."""

    def __init__(self, stream: str) -> None:
        self.current: str | None = None
        """The last error; None once all is written."""
        self._stream = stream
        self._throttle = LogThrottle()
        self._sync_failing = False

    @property
    def shown(self) -> str | None:
        """`current`, or that a sync of the file failed, until something of the stream is committed."""
        return self.current or ("the disk failed to sync its file" if self._sync_failing else None)

    def on_error(self, error: OSError | KafkaException) -> None:
        """Note an error; records wait, here and in Kafka."""
        of_disk = isinstance(error, OSError)
        why = str(error) if of_disk else error.args[0].str()
        if self._throttle.due(time.monotonic()):
            what = "can't write" if of_disk else "can't ask Kafka for what it needs"
            log.error("%s: %s: %s; records wait in Kafka, still trying", self._stream, what, why)
        self.current = why

    def on_success(self) -> None:
        """Note that all is written."""
        if self._throttle.reset():
            log.info("%s: writing again", self._stream)
        self.current = None

    def on_sync_error(self, error: SyncError) -> None:
        """Note that a sync failed."""
        if not self._sync_failing:
            what = "%s: the disk failed to sync its file: %s; recording again from the last commit"
            log.error(what, self._stream, error)
        self._sync_failing = True

    def on_committed(self) -> None:
        """Note that something is durable and committed."""
        if self._sync_failing:
            self._sync_failing = False
            log.info("%s: the disk syncs its file again", self._stream)
