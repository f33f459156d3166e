"""--check-config: shows the settings in effect and where each comes from, and tries what the program will need.

Nothing is recorded or published, no topic is created, no group is joined.
"""

import argparse
import os
import shutil
import socket
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config
from g3stream.kafka.errors import ConnectionErrors
from g3stream.service.arguments import EnvArgumentParser
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint, ListenError, listen

_SECONDS = 5.0
_NAME, _VALUE, _COLUMNS = 23, 24, 80
"""Columns of a flag's name and its value, and of the terminal that they shall fit."""

Trial = tuple[str, Callable[[], str]]
"""What is tried, and a function that tries it and returns what it found. It raises an error of `_EXPECTED`."""

_EXPECTED = (OSError, KafkaException, ListenError, ValueError)


def check_config(
    parser: EnvArgumentParser, options: argparse.Namespace, trials: Iterable[Trial], notes: Sequence[str] = ()
) -> int:
    """Print the settings and the outcome of each trial; return the exit code, 1 if a trial failed.

    notes: lines about settings that come from elsewhere.
    """
    for flag, value, origin in parser.settings(options):
        line = f"{flag:<{_NAME}} {_shown(value):<{_VALUE}} {origin}"
        if len(line) > _COLUMNS and sys.stdout.isatty():
            line = f"{flag:<{_NAME}} {_shown(value)}\n{'':<{_NAME + _VALUE + 1}} {origin}"
        parser.print_lines(line)
    parser.print_lines("", *notes)
    failed = False
    for what, act in trials:
        try:
            outcome = f"ok      {what}: {act()}"
        except _EXPECTED as error:
            failed = True
            why = describe_kafka_error(error, options) if isinstance(error, KafkaException) else _why(error)
            outcome = f"FAILED  {what}: {why}"
        parser.print_lines(_folded(outcome))
    return int(failed)


def kafka_trials(options: argparse.Namespace, topics: list[str]) -> Iterator[Trial]:
    """Yield the trial of Kafka's brokers. topics: those that the program will use, as far as they are known."""
    outage = ConnectionErrors()
    config: dict[str, Any] = {**kafka_client_config(options, {}), "error_cb": outage.record}

    def ask() -> str:
        client = AdminClient(config)
        try:
            found = client.list_topics(timeout=_SECONDS)
        except KafkaException as error:
            client.poll(0)
            raise OSError(None, outage.describe(error.args[0])) from None
        missing = [name for name in topics if name not in found.topics]
        there = "1 broker answers" if len(found.brokers) == 1 else f"{len(found.brokers)} brokers answer"
        return there + (f"; not there yet: {', '.join(missing)}" if missing else "")

    yield f"Kafka at {config['bootstrap.servers']}", ask


def sender_trial(stream: str, source: ClientEndpoint | ListenEndpoint) -> Trial:
    """Return the trial of a stream's source: a connection to it, or listening for it."""

    return f"the sender of {stream}, {source}", partial(_try_endpoint, source)


def http_trials(endpoint: ListenEndpoint | None) -> Iterator[Trial]:
    """Yield the trial of --http, if that is given."""
    if endpoint:
        yield f"--http {endpoint}", partial(_try_endpoint, endpoint)


def command_trial(flag: str, program: str) -> Trial:
    """Return the trial of a program that a flag names."""

    def find() -> str:
        found = shutil.which(program)
        if not found:
            raise ValueError("no such program, or it may not be executed")
        return found

    return f"{flag} {program}", find


def directory_trial(what: str, directory: Path) -> Trial:
    """Return the trial of a directory on disk: whether files can be made there, and synced, and how much is free."""

    def write() -> str:
        existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
        try:
            with tempfile.TemporaryFile(dir=existing) as file:
                file.write(b"check")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(error.errno, f"nothing can be written in {existing}: {error.strerror}") from None
        space = os.statvfs(existing)
        free = f"{space.f_bavail * space.f_frsize / 1e9:.1f} GB free"
        return free if existing == directory else f"{free}; it will be made in {existing}"

    return f"{what} {directory}", write


def _try_endpoint(endpoint: ClientEndpoint | ListenEndpoint) -> str:
    if isinstance(endpoint, ListenEndpoint):
        listen(endpoint).close()
        return "it can be listened on"
    socket.create_connection((endpoint.address, endpoint.port), _SECONDS).close()
    return "it accepts connections"


def _folded(line: str) -> str:
    """Break a line between words, if it is for a terminal that is narrower."""
    if not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(line, width, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False)


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):  # client.properties: values may be secret
        return ", ".join(value) or "-"
    if isinstance(value, list | tuple):
        return " ".join("=".join(it) if isinstance(it, tuple) else str(it) for it in value) or "-"
    return str(value)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (f"{error.filename}: " if error.filename else "") + (error.strerror or str(error))
    return str(error)
