"""The followers of an archive, one for each sink that the options name."""

import argparse
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.handover.command_sink import CommandSink
from archiver.handover.follower import Follower
from archiver.handover.on_file import Command, OnFile
from archiver.handover.schedule import FollowerStatus
from archiver.handover.sink import Sink
from archiver.handover.webhook_sink import WebhookSink

if TYPE_CHECKING:
    from archiver.suprsync.registration import SupRsync, SupRsyncStatus


def sinks_of(options: argparse.Namespace, root: Path) -> list[Sink]:
    """Return the sinks of --on-file for the archive in `root`."""
    on_file: OnFile | None = options.on_file
    if on_file is None:
        return []
    return [CommandSink(on_file, root) if isinstance(on_file, Command) else WebhookSink(on_file)]


def suprsync_of(
    options: argparse.Namespace,
    archive: ArchiveRoot,
    streams: Collection[str] | None,
    config: Mapping[str, Any],
    instance_id: str,
) -> "SupRsync | None":
    """Return what registers files with socs' SupRsync agent; None without --suprsync-db."""
    if options.suprsync_db is None:
        return None
    # Imported here, as it needs the extra [socs].
    from archiver.suprsync.registration import SupRsync

    db, archive_name = options.suprsync_db, options.suprsync_archive_name
    return SupRsync(archive, db, archive_name, streams, config, instance_id)


class Followers:
    """Context manager that hands the events of an archive over to its sinks while recording continues.

    config: librdkafka's settings.
    location, group: of the archive.
    ids: returns the archive's ids; none until they are known (Membership.ids).
    suprsync: adds one more sink.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        location: Location,
        group: str,
        ids: Callable[[], tuple[str, ...]],
        sinks: Sequence[Sink],
        suprsync: "SupRsync | None" = None,
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._followers = [Follower(config, location, group, ids, sink, now_ms) for sink in sinks]
        self._suprsync = suprsync
        self._running = ExitStack()
        if suprsync:
            # From time 0: all that was ever recorded is transferred.
            self._followers.append(Follower(config, location, group, ids, suprsync.sink, 0))

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._running.close()
        for follower in self._followers:
            follower.join()
