"""An archiver's lock on its data directory, and its membership in the consumer group."""

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from archiver.archive import archive_lock, archive_settings, identity
from archiver.archive.file_system_check import check_disk
from archiver.archive.location import SETTINGS, Checksums, Location, check_apart
from archiver.archive.ownership import AnotherArchiveError, check_group
from archiver.archive.root import ArchiveRoot
from archiver.core.events import Event
from archiver.core.segmentation import Settings
from archiver.kafka.offset_commits import FencedError
from archiver.loop import RecordingLoop
from archiver.recording.status import ArchiveStatus
from g3stream.kafka.throttling import Throttling
from g3stream.service.timeouts import MonitoredDisk

log = logging.getLogger(__name__)


class ClaimedError(Exception):
    """Another archiver on this host uses this data directory and instance id; the message says what to do."""


class Membership:
    """A member of the group `archive.group` that records into `archive.location`.

    Any thread may set `stopping`.
    instance_id: the member's name in the group.
    checksums: where to keep them; None for the archive's present setting.
    The other parameters are those of RecordingLoop.
    """

    def __init__(
        self,
        archive: ArchiveRoot,
        settings: Settings,
        config: Mapping[str, Any],
        instance_id: str,
        streams: Sequence[str] | None,
        on_published: Callable[[Event], None] = lambda _: None,
        checksums: Checksums | None = None,
    ) -> None:
        self.stopping = threading.Event()
        self._archive = archive
        self._settings = settings
        self._config = config
        self._instance_id = instance_id
        self._streams = streams
        self._on_published = on_published
        self._checksums = checksums
        self._loop: RecordingLoop | None = None
        self._disk = MonitoredDisk("the data disk")
        self._throttling = Throttling("consumer_byte_rate", config)

    def run(self) -> None:
        """Record until `stopping` is set.

        Raises OSError if the data directory can't be used, ClaimedError, AnotherArchiveError if it isn't the group's,
        FencedError if another archiver has taken over, KafkaException on a wrong setting.
        """
        log.info("checking the file system of %s", self._archive.location.data_dir)
        claim = self._disk.call_unless_stopped(
            self.stopping, "the check of its file system", self._check_disk, _Claim.close
        )
        if claim is None:
            return
        with closing(claim):
            self._archive = replace(self._archive, location=claim.location)
            away_since_s: float | None = None
            while True:
                self._loop = RecordingLoop(
                    self._archive,
                    self._settings,
                    {**self._config, **self._throttling.client_config},
                    self._instance_id,
                    self._streams,
                    self._on_published,
                    self.stopping,
                    self._throttling,
                    away_since_s,
                )
                root, group = self._archive.location.data_dir, self._archive.group
                log.info("recording to %s, in the group %s as %s", root, group, self._instance_id)
                try:
                    self._loop.run()
                    if self.stopping.is_set():
                        break
                    self._throttling.use_long_timeout()
                except AnotherArchiveError as error:
                    if error.forgotten:
                        claim.withdraw()
                    raise
                except FencedError:
                    if not self._loop.fenced_by_own_commit or self.stopping.is_set():
                        raise
                    log.warning(
                        "a commit from before an outage arrived too late; nothing is lost, joining the group again"
                    )
                away_since_s = self._loop.away_since_s  # the end of an outage is logged by the loop that sees it

    def startup_problem(self) -> str | None:
        """Return, in words, that a disk operation hangs at the start; None if none does. Thread-safe."""
        return self._disk.problem()

    def _check_disk(self) -> "_Claim":
        """Create the directories, check them, and lock them. Raises OSError, ClaimedError, AnotherArchiveError."""
        location = self._archive.location
        check_apart(location)
        check_group(self._archive, identity.read(location))
        new = not location.private_path.exists()
        location = archive_settings.initialize(location, self._checksums)
        name = f"{self._instance_id}.lock"
        with ExitStack() as locks:
            try:
                with location.private() as private:
                    locks.callback(os.close, private.lock(name, fcntl.LOCK_EX))
            except BlockingIOError:
                raise ClaimedError(
                    f"another archiver runs on this host with the instance id {self._instance_id} "
                    f"(it holds {location.private_path / name}); "
                    f"stop it first, or share its streams under another --instance-id"
                ) from None
            locks.callback(os.close, archive_lock.acquire_shared(location))
            check_disk(location, f"check.{self._instance_id}")
            default = Location(location.data_dir).private_path
            if location.private_dir and default.exists():  # readers of the archive would find it there
                text = "%s isn't this archive's private directory, which is %s; if nothing needs it, remove it"
                log.warning(text, default, location.private_dir)
            return _Claim(location, name, new, locks.pop_all())

    def ids(self) -> tuple[str, ...]:
        """Return the archive's ids, its own first; none until they are known. Thread-safe."""
        return self._loop.ids if self._loop else ()

    def status(self) -> ArchiveStatus | None:
        """Return the archive's status, None before there is one. Thread-safe."""
        return self._loop.status() if self._loop else None


@dataclass(frozen=True, slots=True)
class _Claim:
    """An exclusive lock on an instance id in an archive, and a shared lock on the archive."""

    location: Location
    name: str
    """Of the lock file, in the private directory."""
    new: bool
    """Whether the private directory was created by this claim."""
    locks: ExitStack
    """Releases both locks."""

    def withdraw(self) -> None:
        """Remove a private directory that was created here and isn't the archive's, as far as that is possible.

        Readers of the data directory would find it there.
        """
        if not self.new:
            return
        with suppress(OSError):
            with self.location.private() as private:
                for name in (self.name, archive_lock.LOCK, SETTINGS):
                    private.unlink(name)
            self.location.private_path.rmdir()

    def close(self) -> None:
        """Release both locks."""
        self.locks.close()
