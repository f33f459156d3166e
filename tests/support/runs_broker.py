"""The one Kafka broker of a test run, started when a test first needs it, stopped at the end of the run.

With pytest-xdist, tests run in several processes; they get the broker from their parent process, which outlives them.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Lock, Thread


class NoBrokerError(Exception):
    """No broker is available; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A broker that runs."""

    servers: str
    """Its `bootstrap.servers`."""
    far: str
    """Its `bootstrap.servers` through a proxy with the delay of a network."""
    which: str
    """The kind of broker, in words."""


class RunsBroker:
    """The broker in the run's first process. start: a context manager that runs one in an empty directory."""

    def __init__(self, start: Callable[[Path], AbstractContextManager[Found]]) -> None:
        self._start = start
        self._running = ExitStack()
        self._starter = ThreadPoolExecutor(1, "kafka")
        self._first = Lock()
        self._started: Future[Found] | None = None

    @property
    def found(self) -> Found | None:
        """The broker, if a test has requested one and it runs."""
        started = self._started
        return started.result() if started and started.done() and not started.exception() else None

    def get(self, directory: Path) -> Found:
        """Return the broker; the first call starts it with its data in `directory`. Raises NoBrokerError."""
        with self._first:
            if self._started is None:
                self._started = self._starter.submit(lambda: self._running.enter_context(self._start(directory)))
        if error := self._started.exception():
            raise NoBrokerError(str(error)) from error
        return self._started.result()

    def listen(self) -> str:
        """Serve `ask` of other processes on this host; return the address."""
        directory = self._running.enter_context(tempfile.TemporaryDirectory(prefix="kafka-of-tests-"))
        listener = self._running.enter_context(Listener(str(Path(directory, "socket")), "AF_UNIX"))
        Thread(target=self._answer, args=[listener], name="kafka of tests", daemon=True).start()
        return str(listener.address)

    def close(self) -> None:
        """Stop the broker."""
        self._starter.shutdown()
        self._running.close()

    def _answer(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:
                return  # the run is over
            with connection:
                try:
                    connection.send(self.get(connection.recv()))
                except NoBrokerError as error:
                    connection.send(error)
                except (OSError, EOFError):
                    continue  # the other process has ended


def ask(address: str, directory: Path) -> Found:
    """Call `RunsBroker.get` in the process that listens at `address`."""
    with Client(address, "AF_UNIX") as connection:
        connection.send(directory)
        answer: Found | NoBrokerError = connection.recv()
    if isinstance(answer, NoBrokerError):
        raise answer
    return answer
