"""The command `ingest`: flags, signals, and the stream, or streams, that they start."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from confluent_kafka import KafkaException, Producer

from ingest.connection import ListenError
from ingest.log import log_to_stderr
from ingest.publisher import PRODUCER_CONFIG, TopicRefused
from ingest.settings import (
    Flags,
    kafka_client,
    key_value,
    listen_on,
    port,
    replication_factor,
    seconds,
    size,
    stream_flag,
)
from ingest.spool import SpoolError
from ingest.stream import StreamStatus
from ingest.stream_settings import StreamSettings, StreamsFileError, stream_of_flags, streams_of_file
from ingest.streams import Down, Streams, opened, say_where

log = logging.getLogger("ingest")

_DESCRIPTION = """\
Read the G3 frames of a stream from TCP and publish them to its Kafka topic, g3.frames.STREAM; of one stream, or of
many at once, which don't disturb each other.

May be started before the sender and before Kafka: it waits for both, and for both again whenever they go away.
What was read lies in a spool on disk until Kafka has acknowledged it, so neither a broker that is away nor a
kill of this process loses a frame. Stop it with SIGTERM or Ctrl-C; it exits 0 within seconds."""

_EXAMPLES = """\
examples:
  ingest --stream crate1slot2                                 from localhost:50000, to Kafka at localhost:9092
  ingest --stream crate1slot2 --address smurf-srv01 --port 4532 --bootstrap-servers kafka1:9092,kafka2:9092
  ingest --stream crate1slot2 --listen 50000                  for a sender that connects out to us
  ingest --stream crate1slot2 --replication-factor 3 --topic-config min.insync.replicas=2 \\
         --topic-config retention.bytes=500000000000
  ingest --streams streams.toml --spool-size 8GiB             many streams; what their tables don't say, the flags do

streams.toml has a table for each stream; its keys are these flags, without the dashes before them:
  [[stream]]
  name = "crate1slot2"
  address = "smurf-srv01"
  port = 4532

  [[stream]]
  name = "crate1slot3"
  listen = 50003                # instead of address and port
  timeout = 30
  max-frame-size = "64MiB"
  spool-size = "32GiB"
  replication-factor = 3
  topic-config = {"retention.bytes" = 500000000000}           # besides those that the flags name
A stream that ends by an error, such as a port that is taken, is told, and started again within a minute by itself.

exit codes: 0 stopped as asked; 1 can't go on, and says why, or a stream of several couldn't; 2 wrong usage."""


def make_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    flags = Flags("ingest", _DESCRIPTION, _EXAMPLES)
    flags.option("--stream", type=stream_flag, metavar="NAME", help="the stream's name")
    flags.option("--streams", type=Path, metavar="FILE", help="several streams, instead of one; see below")
    flags.one_of("--stream", "--streams")
    flags.option("--address", default="localhost", metavar="HOST", help="the sender's host")
    flags.option("--port", type=port, default="50000", help="the sender's TCP port")
    flags.option(
        "--listen",
        type=listen_on,
        metavar="[HOST:]PORT",
        help="wait for the sender to connect to us, instead of connecting to it",
    )
    flags.option(
        "--timeout",
        type=seconds,
        default="5",
        metavar="SECONDS",
        help="close a connection on which nothing came for so long, and connect anew",
    )
    flags.option(
        "--max-frame-size",
        type=size,
        default="256MiB",
        metavar="SIZE",
        help="drop a connection that announces a larger frame",
    )
    flags.kafka_options()
    flags.option(
        "--topic-config",
        type=key_value,
        action="append",
        default=[],
        metavar="K=V",
        help="a setting for the topic, if this creates it; may be repeated",
    )
    flags.option(
        "--replication-factor",
        type=replication_factor,
        metavar="N",
        help="of the topic, if this creates it; the broker's default if not given",
    )
    flags.option(
        "--spool-dir",
        type=Path,
        default=str(default_spool_dir()),
        metavar="DIR",
        help="where the spool lies, in a directory of the stream's name; on a local disk",
    )
    flags.option(
        "--spool-size",
        type=size,
        default="16GiB",
        metavar="SIZE",
        help="the most that the spool may take, at least 1MiB; reading stops when 85%% of it are full",
    )
    flags.http_option()
    return flags


def main(args: list[str] | None = None) -> int:
    """Run the command; args: the command line without the program's name. Gives the exit code."""
    parser = make_parser()
    options = parser.parse_args(args)
    several = None
    if options.streams:
        if options.listen:
            parser.error("--listen: not together with --streams, whose streams need a port each: say it in the file")
        try:
            several = streams_of_file(options.streams, options)
        except StreamsFileError as error:
            parser.error(str(error))
    log_to_stderr(options.log_level, options.log_format)
    try:
        config = kafka_client(options, PRODUCER_CONFIG)
        Producer(config)  # raises on a wrong setting, before anything is opened
        return _run_several(options, several, config) if several else _run_one(options, config)
    except (SpoolError, TopicRefused, ListenError) as error:
        log.error("%s", error)
    except KafkaException as error:  # a client setting that librdkafka doesn't take
        log.error("Kafka settings: %s", error.args[0].str())
    return 1


def _run_one(options: argparse.Namespace, config: dict[str, str | int | bool]) -> int:
    settings = stream_of_flags(options)
    with opened(settings, options.spool_dir, config) as stream:
        _stop_with(stream.over)
        say_where(settings, config)
        with _http(options, lambda: [stream.status()]):
            stream.run()
    return 0


def _run_several(
    options: argparse.Namespace, settings: Sequence[StreamSettings], config: dict[str, str | int | bool]
) -> int:
    streams = Streams(settings, options.spool_dir, config)
    _stop_with(streams.over)
    with _http(options, streams.status):
        return 0 if streams.run() else 1


def _stop_with(over: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())


def _http(
    options: argparse.Namespace, statuses: Callable[[], Sequence[StreamStatus | Down]]
) -> AbstractContextManager[object]:
    """What is served of them, if anything: recording goes on without."""
    if not options.http:
        return nullcontext()
    # Here, so that without it nothing is imported for it.
    from ingest.http import HttpServer
    from ingest.metrics import metrics, problems

    try:
        return HttpServer(
            options.http,
            lambda: metrics(statuses(), options.spool_dir, time.time()),
            lambda: problems(statuses()),
        )
    except ListenError as error:
        log.error("%s; recording goes on without --http", error)
        return nullcontext()


def default_spool_dir() -> Path:
    """Where this user's spools lie."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "g3-recorder" / "spool"


if __name__ == "__main__":
    sys.exit(main())
