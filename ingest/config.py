"""The settings of streams: their flags, which the agents have too, and the file of `ingest --streams`."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from g3stream.host.small_file import read_small_file
from g3stream.service import arguments
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint

MIN_SPOOL_BYTES = 1 << 20
_ALL_INTERFACES = ("", "0.0.0.0", "::")  # noqa: S104 - compared with, not bound to


class StreamsFileError(Exception):
    """The file of streams can't be used; the message names the stream and the key, and says why."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The settings of one stream."""

    name: str
    source: ClientEndpoint | ListenEndpoint
    timeout_s: float
    """A connection is closed after so many seconds without a byte."""
    max_frame_bytes: int
    topic_config: Mapping[str, str]
    """Settings of its topics, if they are created."""
    replication_factor: int | None
    """Of its topics, if they are created; None for the broker's default."""
    spool_bytes: int


def spool_size(text: str) -> int:
    """An argument type: the size of a spool."""
    size_bytes = arguments.size(text)
    if size_bytes < MIN_SPOOL_BYTES:
        raise argparse.ArgumentTypeError("must be at least 1MiB")
    return size_bytes


def stream_options(add_option: Callable[..., object], **several: Any) -> None:
    """Add the options of a stream. add_option: as ArgumentParser.add_argument. several: makes an option a list."""
    add_option("--address", type=arguments.host, default="localhost", metavar="HOST", help="the sender's host")
    add_option("--port", type=arguments.port, default="50000", help="the sender's TCP port")
    text = "wait for the sender to connect to us, instead of connecting to it"
    add_option("--listen", type=arguments.listen_endpoint, metavar="[HOST:]PORT", help=text)
    text = "close a connection on which nothing is received for so long, and reconnect"
    add_option("--timeout", type=arguments.seconds, default="5", metavar="DURATION", help=text)
    text = "close a connection that announces a larger frame"
    add_option("--max-frame-size", type=arguments.size, default="256MiB", metavar="SIZE", help=text)
    text = "a setting of the topic, if it is created; several may be given"
    add_option("--topic-config", type=arguments.key_value, default=[], metavar="K=V", help=text, **several)
    text = "of the topic, if it is created; the broker's default if not given"
    add_option("--replication-factor", type=arguments.replication_factor, metavar="N", help=text)
    text = "the most that a stream's spool may take on disk, at least 1MiB; reading stops when it is 85%% full"
    add_option("--spool-size", type=spool_size, default="16GiB", metavar="SIZE", help=text)


def stream_from_flags(options: argparse.Namespace, name: str) -> StreamSettings:
    """Return the settings of the one stream that the flags describe."""
    return _settings({"name": name}, options)


def streams_from_file(path: Path, options: argparse.Namespace) -> list[StreamSettings]:
    """Read the streams of a TOML file, in its order; the flags are the defaults. Raises StreamsFileError."""
    import tomllib  # here, as a single stream doesn't need it

    try:
        document = tomllib.loads(read_small_file(path).decode())
    except OSError as error:
        raise StreamsFileError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise StreamsFileError(f"{path} is no valid TOML: {error}") from None
    tables = document.pop("stream", [])
    if document:
        raise StreamsFileError(f"{path}: {next(iter(document))}: unknown; each stream is a table [[stream]]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise StreamsFileError(f"{path}: stream: each is a table, [[stream]] in double brackets")
    if not tables:
        raise StreamsFileError(f"{path}: no stream in it; each is a table [[stream]]")
    streams = []
    for number, table in enumerate(tables, 1):
        name = table.get("name")
        where = f"{path}: stream {number}" + (f", {name}" if isinstance(name, str) else "")
        try:
            streams.append(_settings(dict(_validated(table)), options))
        except argparse.ArgumentTypeError as error:
            raise StreamsFileError(f"{where}: {error}") from None
    for (first, one), (second, other) in combinations(enumerate(streams, 1), 2):
        if shared := _conflict(one, other):
            raise StreamsFileError(f"{path}: stream {second}, {other.name}: {shared} as stream {first}, {one.name}")
    return streams


def _settings(table: Mapping[str, Any], options: argparse.Namespace) -> StreamSettings:
    """Combine a table of checked values with the flags as defaults. Raises ArgumentTypeError."""
    if "name" not in table:
        raise argparse.ArgumentTypeError("name: missing")
    listen = table.get("listen", options.listen)
    for key in ("address", "port"):
        if listen and key in table:
            raise argparse.ArgumentTypeError(f"{key}: not together with listen, which waits for the sender instead")
    return StreamSettings(
        name=table["name"],
        source=listen or ClientEndpoint(table.get("address", options.address), table.get("port", options.port)),
        timeout_s=table.get("timeout", options.timeout),
        max_frame_bytes=table.get("max-frame-size", options.max_frame_size),
        topic_config={**dict(options.topic_config), **table.get("topic-config", {})},
        replication_factor=table.get("replication-factor", options.replication_factor),
        spool_bytes=table.get("spool-size", options.spool_size),
    )


def _topic_config(table: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        if not isinstance(value, str | int):  # a nested table too: a.b = 1 is one, and "a.b" = 1 isn't
            raise argparse.ArgumentTypeError(f'{key}: no text or number; a name with dots in it needs quotes, "a.b"')
        found.update([arguments.key_value(f"{key}={str(value).lower() if isinstance(value, bool) else value}")])
    return found


_KEYS: dict[str, tuple[tuple[type, ...], str, Callable[[Any], Any]]] = {
    # The TOML types accepted, their description for errors, and the flag's own parser, which takes text.
    "name": ((str,), "a text", arguments.stream_flag),
    "address": ((str,), "a text", arguments.host),
    "port": ((int,), "a number", arguments.port),
    "listen": ((int, str), "a port, or a text [HOST:]PORT", arguments.listen_endpoint),
    "timeout": ((int, float), "a number of seconds", arguments.seconds),
    "max-frame-size": ((int, str), 'a size such as "256MiB"', arguments.size),
    "topic-config": ((dict,), "a table", _topic_config),
    "replication-factor": ((int,), "a number", arguments.replication_factor),
    "spool-size": ((int, str), 'a size such as "16GiB"', spool_size),
}


def _validated(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the table's keys with their values, parsed as the flags are. Raises ArgumentTypeError."""
    for key, value in table.items():
        if key not in _KEYS:
            meant = arguments.did_you_mean(key, _KEYS)
            raise argparse.ArgumentTypeError(f"{key}: unknown; there are {', '.join(_KEYS)}{meant}")
        types, what, check = _KEYS[key]
        if not isinstance(value, types) or isinstance(value, bool):
            raise argparse.ArgumentTypeError(f"{key}: must be {what}")
        try:
            yield key, check(value if isinstance(value, dict) else str(value))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{key}: {error}") from None


def _conflict(one: StreamSettings, other: StreamSettings) -> str:
    """Describe what these two share and must not; empty if nothing."""
    if one.name == other.name:
        return "name: the same"
    match one.source, other.source:
        case ListenEndpoint(here, one_port), ListenEndpoint(there, other_port):
            if one_port == other_port and (here == there or here in _ALL_INTERFACES or there in _ALL_INTERFACES):
                return "listen: the same port"
        case ClientEndpoint() as sender, ClientEndpoint() as other_sender:
            if str(sender).lower() == str(other_sender).lower():
                return f"address, port: the same sender, {other_sender},"
    return ""
