"""The process `ingest`: the streams that it runs until a signal, what is served of them, and its exit code."""

import argparse
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from confluent_kafka import KafkaException

from g3stream.host.disk_wait import AwaitedDisk
from g3stream.kafka.client_config import kafka_client, kafka_refusal, validate_producer_config
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.endpoint import ListenError
from g3stream.service.log_writer import LogWriter
from g3stream.service.logs import log_of_service
from g3stream.service.stop_signals import StopSignals
from ingest.config import StreamSettings, stream_of_flags
from ingest.publish.in_flight import PRODUCER_CONFIG, of_any_client
from ingest.publish.stream_topics import TopicRefused
from ingest.spool.spool import SpoolError
from ingest.stream import Stream, StreamStatus
from ingest.supervisor import SPOOL_DISK, Down, Streams, opened, say_where

log = logging.getLogger("ingest")


def run(options: argparse.Namespace, several: Sequence[StreamSettings] | None, signals: StopSignals) -> int:
    """Record until SIGTERM or SIGINT; gives the exit code. several: the streams, if it isn't the one of the flags."""
    writer = log_of_service(options.log_level, options.log_format)
    try:
        config = kafka_client(options, PRODUCER_CONFIG)
        validate_producer_config(config)  # before anything is opened
        if several:
            return _run_several(options, several, config, writer, signals)
        return _run_one(options, config, writer, signals)
    except (SpoolError, TopicRefused, ListenError) as error:
        log.error("%s", error)
    except KafkaException as error:  # a client setting that librdkafka doesn't take
        log.error("Kafka settings: %s", kafka_refusal(error, options))
    return 1


def _run_one(
    options: argparse.Namespace, config: dict[str, str | int | bool], writer: LogWriter, signals: StopSignals
) -> int:
    settings = stream_of_flags(options)
    running: list[Stream] = []

    disk = AwaitedDisk(SPOOL_DISK)
    stopping = threading.Event()
    signals.on_stop(stopping.set)

    def status() -> StreamStatus | Down:
        if running:
            return running[0].status()
        return Down(settings.name, disk.problem() or "its spool is being opened")

    # First of all, and until the end: to open a spool, and to close it, takes its disk.
    with (
        _http(options, lambda: [status()], writer),
        TopicWatch(of_any_client(config)) as watch,
        opened(settings, options.spool_dir, config, watch, disk, stopping) as stream,
    ):
        if stream is None:
            return 0
        running.append(stream)
        signals.on_stop(stream.over.set)
        say_where(settings, config)
        stream.run()
    return 0


def _run_several(
    options: argparse.Namespace,
    settings: Sequence[StreamSettings],
    config: dict[str, str | int | bool],
    writer: LogWriter,
    signals: StopSignals,
) -> int:
    streams = Streams(settings, options.spool_dir, config)
    signals.on_stop(streams.over.set)
    with _http(options, streams.status, writer):
        return 0 if streams.run() else 1


def _http(
    options: argparse.Namespace, statuses: Callable[[], Sequence[StreamStatus | Down]], writer: LogWriter
) -> AbstractContextManager[object]:
    """What is served of them, if anything: recording goes on without."""
    if not options.http:
        return nullcontext()
    # Here, so that without it nothing is imported for it.
    from g3stream.host.disk_space import Disks
    from g3stream.service.http_server import HttpServer
    from ingest.metrics import metrics, problems

    disks = Disks()
    try:
        return HttpServer(
            options.http,
            lambda: metrics(statuses(), writer.status(), options.spool_dir, disks, time.time()),
            lambda: problems(statuses(), writer.status(), time.time()),
        )
    except ListenError as error:
        log.error("%s; recording goes on without --http", error)
        return nullcontext()
