"""The followers of an archive, one for each sink that the options name."""

import argparse
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from archiver.archive.root import ArchiveRoot
from archiver.handover.follower import Follower
from archiver.handover.on_file_sink import OnFileSink
from archiver.handover.schedule import FollowerStatus
from archiver.handover.sink import Sink
from g3stream.host.environment import now_ms

if TYPE_CHECKING:
    from archiver.suprsync.registration import SupRsyncStatus


class Followers:
    """Context manager that hands the events of an archive over to its sinks while recording continues.

    options: --on-file, --suprsync-db and --suprsync-archive-name.
    ids: returns the archive's ids; none until they are known (Membership.ids).
    streams: that are recorded; None for all.
    config: librdkafka's settings.
    instance_id: this archiver's name in the files for SupRsync.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        archive: ArchiveRoot,
        ids: Callable[[], tuple[str, ...]],
        streams: Collection[str] | None,
        config: Mapping[str, Any],
        instance_id: str,
    ) -> None:
        sinks: list[tuple[Sink, int]] = []  # with the time from which on events are handed over, ms
        if options.on_file is not None:
            sinks.append((OnFileSink(options.on_file, archive.location.data_dir), now_ms()))
        self._suprsync = None
        if options.suprsync_db is not None:
            # Imported here, as it needs the extra [socs].
            from archiver.suprsync.registration import SupRsync

            name = options.suprsync_archive_name
            self._suprsync = SupRsync(archive, options.suprsync_db, name, streams, config, instance_id)
            sinks.append((self._suprsync.sink, 0))  # all that was ever recorded is transferred
        self._followers = [
            Follower(config, archive.location, archive.group, ids, sink, since_ms) for sink, since_ms in sinks
        ]
        self._running = ExitStack()

    def status(self) -> tuple[FollowerStatus, ...]:
        """Return the status of each. Thread-safe."""
        return tuple(follower.status() for follower in self._followers)

    def suprsync(self) -> "SupRsyncStatus | None":
        """Return the status of the hand-over to SupRsync, if there is one. Thread-safe."""
        return self._suprsync.status() if self._suprsync else None

    def stop(self) -> None:
        """Ask all of them to end, without waiting for it. Thread-safe."""
        for follower in self._followers:
            follower.stop()
        if self._suprsync:
            self._suprsync.stop()

    def __enter__(self) -> Self:
        for follower in self._followers:
            follower.start()
        if self._suprsync:
            registering = self._followers[-1]
            self._running.enter_context(self._suprsync.running(lambda: registering.status().position))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._running.close()
        for follower in self._followers:
            follower.join()
