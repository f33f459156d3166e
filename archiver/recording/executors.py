"""Thread pools for slow work: one for each kind of work, so that none waits for another kind."""

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

from archiver.archive.location import Location
from archiver.archive.unknown_file_sums import UnknownFileChecksums
from archiver.recovery.recovery import RecoveryPool
from g3stream.service.timeouts import call_with_timeout

_WRITING_THREADS = 4
_FINALIZING_THREADS = 8
_SYNCING_THREADS = 32
"""As many streams' disks may hang or be slow at once, before other streams have to wait."""
_PUBLISHING_THREADS = 8


class Executors:
    """The thread pools of one archive."""

    def __init__(self, location: Location) -> None:
        self.writers: Executor = ThreadPoolExecutor(_WRITING_THREADS, "writing")
        """Write large amounts to files."""
        self.finalizers: Executor = ThreadPoolExecutor(_FINALIZING_THREADS, "finishing")
        """Finish files, and read them back for their SHA-256."""
        self.recovery = RecoveryPool()
        self.syncers: Executor = ThreadPoolExecutor(_SYNCING_THREADS, "syncing")
        """Make snapshots durable."""
        self.publishers: Executor = ThreadPoolExecutor(_PUBLISHING_THREADS, "publishing")
        """Make snapshots with losses durable, and publish these: g3.files may be unavailable while all else works."""
        self.committer: Executor = ThreadPoolExecutor(1, "committing")
        """Commits, all streams in one request."""
        self.foreign_checksums = UnknownFileChecksums(location)
        """Adds unknown files to the checksums."""

    def shutdown(self, seconds: float | None = None) -> None:
        """Wait for all threads to end, except one that reads an unknown file from a hanging disk.

        seconds: timeout for threads that wait for Kafka; None for no timeout. Threads that take longer continue
        until the process ends.
        """
        for pool in (self.finalizers, self.writers, self.syncers):
            pool.shutdown()

        def end() -> None:
            for pool in (self.recovery, self.publishers, self.committer):
                pool.shutdown()

        with suppress(TimeoutError):
            call_with_timeout(seconds, "ending", end)
        self.foreign_checksums.close()
