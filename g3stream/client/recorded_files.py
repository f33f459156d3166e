"""The files that were recorded, from their events on g3.files (docs/reference/g3.files.md)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import msgspec

from g3stream.client.connection import KafkaConfig, connection
from g3stream.client.errors import NoSuchStreamError
from g3stream.client.source import Source
from g3stream.client.start import time_of
from g3stream.contract.topics import FILES_TOPIC
from g3stream.host.environment import now_ms
from g3stream.host.times import parse_time


@dataclass(frozen=True, slots=True)
class File:
    """A file of an archive."""

    path: str
    """Below the data directory."""
    stream: str
    bytes: int
    sha256: str
    frames: int
    """Of a finished file without the carried ones at its head."""
    begin_ms: int | None
    """When its first frame was received, in ms since 1970; of one that was adopted or salvaged, by its name: None if
    that has no time."""
    end_ms: int | None
    """When its last frame was received; of one that was adopted or salvaged, as `begin_ms`."""
    session: int | None
    """The newest session_id of its frames; None if they have none."""


class _Record(msgspec.Struct):
    time: int


class _State(msgspec.Struct):
    session: int | None = None


class _Checkpoint(msgspec.Struct):
    state: _State


class _Event(msgspec.Struct, frozen=True):
    """Of an event about a file, what is needed here. Other events are none of these."""

    event: str
    group: str
    stream: str = ""
    path: str = ""
    bytes: int = 0
    sha256: str = ""
    frames: int = 0
    first: _Record | None = None
    last: _Record | None = None
    checkpoint: _Checkpoint | None = None


_DECODER = msgspec.json.Decoder(_Event)
_WITH_FILE = ("file", "salvaged", "file_adopted")


def files_of(values: Iterable[bytes], group: str) -> list[File]:
    """Return the files that an archive has according to its events: with those adopted, without those retired.

    values: the values of the records of g3.files, in order. What isn't an event of this archive is skipped.
    """
    found: dict[str, File] = {}
    for event in _events(values):
        if event.group != group:
            continue
        if event.event == "file_retired":
            found.pop(event.path, None)
        elif event.event in _WITH_FILE:
            found[event.path] = _file(event)
    return list(found.values())


def _events(values: Iterable[bytes]) -> Iterator[_Event]:
    for value in values:
        try:
            yield _DECODER.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue


def _file(event: _Event) -> File:
    begin_ms = end_ms = _time_in_name(event.path)
    if event.first is not None and event.last is not None:
        begin_ms, end_ms = event.first.time, event.last.time
    session = event.checkpoint.state.session if event.checkpoint else None
    return File(event.path, event.stream, event.bytes, event.sha256, event.frames, begin_ms, end_ms, session)


def _time_in_name(path: str) -> int | None:
    """Return the time with which a file's name begins, in ms since 1970; None if it doesn't."""
    try:
        return parse_time(path.rpartition("/")[2].partition("_")[0], 0)
    except ValueError:
        return None


def read_files(
    stream: str | None,
    since: str | datetime | None,
    until: str | datetime | None,
    session: int | None,
    group: str,
    bootstrap_servers: str | None,
    kafka_config: KafkaConfig,
    timeout_s: float,
) -> list[File]:
    """Return what `g3stream.files` does."""
    since_ms = None if since is None else time_of(since, now_ms())
    until_ms = None if until is None else time_of(until, now_ms())
    source = Source(FILES_TOPIC, group=None, **connection(bootstrap_servers, kafka_config, timeout_s))
    try:
        values = [message.value() or b"" for message in source.read_range(*source.offset_range())]
    except NoSuchStreamError:
        values = []  # nothing has ever been recorded
    finally:
        source.close()
    return [
        file
        for file in files_of(values, group)
        if (stream is None or file.stream == stream)
        and (session is None or file.session == session)
        and (since_ms is None or (file.end_ms is not None and file.end_ms >= since_ms))
        and (until_ms is None or (file.begin_ms is not None and file.begin_ms <= until_ms))
    ]
