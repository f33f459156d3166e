"""The one Kafka broker of a test run: started when a test first asks for it, stopped when the run is over.

With pytest-xdist tests run in several processes; they ask the one that has started them and outlives them.
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
    """It can't be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Found:
    """servers: its `bootstrap.servers`; far: those through a proxy that delays what passes, as a network does. which:
    what broker that is, in words."""

    servers: str
    far: str
    which: str


class RunsBroker:
    """The broker, in the run's first process. start: takes an empty directory, and gives one while it is entered."""

    def __init__(self, start: Callable[[Path], AbstractContextManager[Found]]) -> None:
        self._start = start
        self._running = ExitStack()
        self._starter = ThreadPoolExecutor(1, "kafka")
        self._first = Lock()
        self._started: Future[Found] | None = None

    @property
    def found(self) -> Found | None:
        """What was found, if anybody has asked, and there is one."""
        started = self._started
        return started.result() if started and started.done() and not started.exception() else None

    def get(self, directory: Path) -> Found:
        """The broker; the first who asks says where its data may be. Raises NoBrokerError."""
        with self._first:
            if self._started is None:
                self._started = self._starter.submit(lambda: self._running.enter_context(self._start(directory)))
        if error := self._started.exception():
            raise NoBrokerError(str(error)) from error
        return self._started.result()

    def listen(self) -> str:
        """Let other processes of this host `ask`; gives the address for that."""
        place = self._running.enter_context(tempfile.TemporaryDirectory(prefix="kafka-of-tests-"))
        listener = self._running.enter_context(Listener(str(Path(place, "socket")), "AF_UNIX"))
        Thread(target=self._answer, args=[listener], name="kafka of tests", daemon=True).start()
        return str(listener.address)

    def close(self) -> None:
        """Stop it."""
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
                    continue  # whoever asked has gone


def ask(address: str, directory: Path) -> Found:
    """`RunsBroker.get` of the process that listens there."""
    with Client(address, "AF_UNIX") as connection:
        connection.send(directory)
        answer: Found | NoBrokerError = connection.recv()
    if isinstance(answer, NoBrokerError):
        raise answer
    return answer
