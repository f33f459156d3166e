"""The followers of an archive, one for each sink; which sinks there are, as the options say."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from archiver.command_sink import CommandSink
from archiver.files_follower import Follower
from archiver.following import FollowerStatus
from archiver.location import Location
from archiver.on_file import Command, OnFile
from archiver.sink import Sink
from archiver.webhook_sink import WebhookSink


def sinks_of(options: argparse.Namespace, root: Path) -> list[Sink]:
    """Where the events of the archive in `root` are to be handed over to."""
    wanted: OnFile | None = options.on_file
    if wanted is None:
        return []
    return [CommandSink(wanted, root) if isinstance(wanted, Command) else WebhookSink(wanted)]


class Followers:
    """A context manager: hands the events of an archive over to its sinks while the recording goes on.

    config: librdkafka's settings. location, group: of the archive. ids: gives the archive's ids once they are
    known, and nothing before (Member.ids).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        location: Location,
        group: str,
        ids: Callable[[], tuple[str, ...]],
        sinks: Sequence[Sink],
    ) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._followers = [Follower(config, location, group, ids, sink, now_ms) for sink in sinks]

    def status(self) -> tuple[FollowerStatus, ...]:
        """How each is; for any thread."""
        return tuple(follower.status() for follower in self._followers)

    def stop(self) -> None:
        """Let all end, side by side with the recording. For any thread."""
        for follower in self._followers:
            follower.stop()

    def __enter__(self) -> Self:
        for follower in self._followers:
            follower.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for follower in self._followers:
            follower.join()
