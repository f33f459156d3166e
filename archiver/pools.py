"""The threads beside the loop's: each kind of work has its own, so that none waits for another kind."""

from concurrent.futures import Executor, ThreadPoolExecutor

from archiver.taking_up import Takers

_WRITING_THREADS = 4
_FINISHING_THREADS = 8


class Pools:
    """Of one archive. writers: write much at once; finishers: finish files, and read them back for their SHA-256;
    takers: take streams up; durable: makes durable and commits, for all streams in one request; telling: the same for
    those whose losses are to be told first, as g3.files may be away while all else is well."""

    def __init__(self) -> None:
        self.writers: Executor = ThreadPoolExecutor(_WRITING_THREADS, "writing")
        self.finishers: Executor = ThreadPoolExecutor(_FINISHING_THREADS, "finishing")
        self.takers = Takers()
        self.durable: Executor = ThreadPoolExecutor(1, "durable")
        self.telling: Executor = ThreadPoolExecutor(1, "telling")

    def shutdown(self) -> None:
        """Return when all of it has ended."""
        for pool in (self.finishers, self.takers, self.writers, self.durable, self.telling):
            pool.shutdown()
