"""The threads beside the loop's: each kind of work has its own, so that none waits for another kind."""

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

from archiver.archive.location import Location
from archiver.archive.unknown_file_sums import UnknownFileChecksums
from archiver.recovery.recovery import RecoveryPool
from g3stream.service.timeouts import call_with_timeout

_WRITING_THREADS = 4
_FINALIZING_THREADS = 8
_SYNCING_THREADS = 32
"""So many streams' disks may hang, or take long, at once, before the others have to wait."""
_PUBLISHING_THREADS = 8


class Executors:
    """Of one archive. writers: write much at once; finalizers: finish files, and read them back for their SHA-256;
    recovery: take streams up; syncers: make durable; publishers: the same for those whose losses are to be told, too,
    as g3.files may be away while all else is well; committer: commits, for all streams in one request;
    foreign_checksums: sees to the files that others put beside ours."""

    def __init__(self, location: Location) -> None:
        self.writers: Executor = ThreadPoolExecutor(_WRITING_THREADS, "writing")
        self.finalizers: Executor = ThreadPoolExecutor(_FINALIZING_THREADS, "finishing")
        self.recovery = RecoveryPool()
        self.syncers: Executor = ThreadPoolExecutor(_SYNCING_THREADS, "syncing")
        self.publishers: Executor = ThreadPoolExecutor(_PUBLISHING_THREADS, "telling")
        self.committer: Executor = ThreadPoolExecutor(1, "committing")
        self.foreign_checksums = UnknownFileChecksums(location)

    def shutdown(self, seconds: float | None = None) -> None:
        """Return when all of it has ended, but for a foreign file that is being read from a disk that hangs.

        seconds: how long what waits for Kafka may take; None if it may for ever. What takes longer goes on until the
        process ends.
        """
        for pool in (self.finalizers, self.writers, self.syncers):
            pool.shutdown()

        def end() -> None:
            for pool in (self.recovery, self.publishers, self.committer):
                pool.shutdown()

        with suppress(TimeoutError):
            call_with_timeout(seconds, "ending", end)
        self.foreign_checksums.close()
