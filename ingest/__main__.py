"""The command `ingest`: flags, signals, and the stream that they start."""

import argparse
import logging
import os
import signal
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from confluent_kafka import KafkaException, Producer

from ingest.connection import ConnectTo, ListenError
from ingest.log import log_to_stderr
from ingest.publisher import PRODUCER_CONFIG, Publisher, TopicRefused
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
from ingest.spool import Spool, SpoolError
from ingest.stream import Stream

log = logging.getLogger("ingest")

_DESCRIPTION = """\
Read the G3 frames of one stream from TCP and publish them to its Kafka topic, g3.frames.STREAM.

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

exit codes: 0 stopped as asked; 1 can't go on, and says why; 2 wrong usage."""


def make_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    flags = Flags("ingest", _DESCRIPTION, _EXAMPLES)
    flags.option("--stream", type=stream_flag, required=True, metavar="NAME", help="this stream's name")
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
    options = make_parser().parse_args(args)
    log_to_stderr(options.log_level, options.log_format)
    try:
        return _run(options)
    except (SpoolError, TopicRefused, ListenError) as error:
        log.error("%s", error)
    except KafkaException as error:  # a client setting that librdkafka doesn't take
        log.error("Kafka settings: %s", error.args[0].str())
    return 1


def _run(options: argparse.Namespace) -> int:
    config = kafka_client(options, PRODUCER_CONFIG)
    Producer(config)  # raises on a wrong setting, before anything is opened
    source = options.listen or ConnectTo(options.address, options.port)
    with Spool(options.spool_dir / options.stream, options.spool_size) as spool:
        publisher = Publisher(options.stream, spool, config, dict(options.topic_config), options.replication_factor)
        stream = Stream(options.stream, source, options.timeout, options.max_frame_size, spool, publisher)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stream.over.set())
        log.info("%s: from %s to Kafka at %s", options.stream, source, config["bootstrap.servers"])
        with _http(options, stream):
            stream.run()
    return 0


def _http(options: argparse.Namespace, stream: Stream) -> AbstractContextManager[object]:
    """What is served of it, if anything: recording goes on without."""
    if not options.http:
        return nullcontext()
    # Here, so that without it nothing is imported for it.
    from ingest.http import HttpServer
    from ingest.metrics import metrics

    spool = options.spool_dir / options.stream
    try:
        return HttpServer(
            options.http,
            lambda: metrics(stream.status(), spool, time.time()),
            lambda: stream.status().problems(),
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
