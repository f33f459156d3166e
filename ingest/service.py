"""The process `ingest`: runs one or several streams until a signal, serves their status, returns the exit code."""

import argparse
import logging
import resource
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress

from confluent_kafka import KafkaException

from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config, validate_producer_config
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.log.setup import service_log
from g3stream.log.writer import LogWriter
from g3stream.service.endpoint import ListenError
from g3stream.service.stop_signals import StopSignals
from ingest.config import StreamSettings, stream_from_flags
from ingest.publish.in_flight import PRODUCER_CONFIG, without_producer_settings
from ingest.publish.outage import Outages
from ingest.publish.stream_topics import TopicRefused
from ingest.reports import publish_reports
from ingest.spool.writer import SpoolError
from ingest.status import StoppedStream, StreamStatus
from ingest.stream import StreamService

log = logging.getLogger("ingest")


def run(options: argparse.Namespace, several: Sequence[StreamSettings] | None, signals: StopSignals) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code. several: the streams of --streams; None with --stream."""
    writer = service_log(options.log_level, options.log_format)
    try:
        config = kafka_client_config(options, PRODUCER_CONFIG)
        validate_producer_config(config)  # before anything is opened
        settings = several or [stream_from_flags(options, options.stream)]
        watch = TopicWatch(without_producer_settings(config))
        outages, spools = Outages(), options.spool_dir
        streams = [StreamService(one, spools, config, watch, len(settings), outages=outages) for one in settings]
        # HTTP starts first and stops last: opening or closing a spool may hang on its disk.
        with _serve_http(options, streams, writer), watch, publish_reports(config, streams):
            if several:
                return 0 if _run_supervised(streams, signals) else 1
            signals.on_stop(streams[0].stop)
            streams[0].run_once()
        return 0
    except (SpoolError, TopicRefused, ListenError) as error:
        log.error("ingest ends: %s", error)
    except KafkaException as error:  # a client setting that librdkafka doesn't accept
        log.error("ingest ends: Kafka settings: %s", describe_kafka_error(error, options))
    return 1


def _run_supervised(streams: Sequence[StreamService], signals: StopSignals) -> bool:
    """Run streams, and restart those that fail, until a signal; then stop all at once.

    A stream that fails doesn't affect the others. Returns whether none of them had failed.
    """
    _allow_many_files()
    stop_requested = threading.Event()
    signals.on_stop(stop_requested.set)
    for stream in streams:
        stream.start()
    stop_requested.wait()
    for stream in streams:
        stream.stop()
    for stream in streams:
        stream.join()
    return not any(stream.error for stream in streams)


def _serve_http(
    options: argparse.Namespace, streams: Sequence[StreamService], writer: LogWriter
) -> AbstractContextManager[object]:
    """Serve metrics and health, if --http is given."""
    if not options.http:
        return nullcontext()
    # Imported here, as without --http none of it is needed.
    from g3stream.service.http_server import serve_if_possible
    from g3stream.service.timeouts import DiskSpace
    from ingest.metrics import metrics, problems

    disks = DiskSpace()

    def statuses() -> list[StreamStatus | StoppedStream]:
        return [stream.status() for stream in streams]

    return serve_if_possible(
        options.http,
        lambda: metrics(statuses(), writer.status(), options.spool_dir, disks, time.time()),
        lambda: problems(statuses(), writer.status(), time.time()),
    )


def _allow_many_files() -> None:
    """Raise the limit of open files: a stream needs a dozen, and more with more brokers; a shell's limit is 1,024."""
    soft_limit, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft_limit != hard_limit:
        with suppress(OSError, ValueError):  # our systemd units forbid it, and don't need it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
