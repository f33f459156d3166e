"""The process `ingest`: runs one or several streams until a signal, serves their status, returns the exit code."""

import argparse
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from confluent_kafka import KafkaException

from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config, validate_producer_config
from g3stream.service.endpoint import ListenError
from g3stream.service.log_writer import LogWriter
from g3stream.service.logs import service_log
from g3stream.service.stop_signals import StopSignals
from ingest.config import StreamSettings, stream_from_flags
from ingest.publish.in_flight import PRODUCER_CONFIG
from ingest.publish.stream_topics import TopicRefused
from ingest.spool.spool import SpoolError
from ingest.status import StoppedStream, StreamStatus
from ingest.supervisor import StreamService, StreamSupervisor

log = logging.getLogger("ingest")


def run(options: argparse.Namespace, several: Sequence[StreamSettings] | None, signals: StopSignals) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code. several: the streams of --streams; None with --stream."""
    writer = service_log(options.log_level, options.log_format)
    try:
        config = kafka_client_config(options, PRODUCER_CONFIG)
        validate_producer_config(config)  # before anything is opened
        # HTTP starts first and stops last: opening or closing a spool may hang on its disk.
        if several:
            streams = StreamSupervisor(several, options.spool_dir, config)
            signals.on_stop(streams.stop_requested.set)
            with _serve_http(options, streams.status, writer):
                return 0 if streams.run() else 1
        stream = StreamService(stream_from_flags(options, options.stream), options.spool_dir, config)
        signals.on_stop(stream.stop)
        with _serve_http(options, lambda: [stream.status()], writer):
            stream.run_once()
        return 0
    except (SpoolError, TopicRefused, ListenError) as error:
        log.error("%s", error)
    except KafkaException as error:  # a client setting that librdkafka doesn't accept
        log.error("Kafka settings: %s", describe_kafka_error(error, options))
    return 1


def _serve_http(
    options: argparse.Namespace, statuses: Callable[[], Sequence[StreamStatus | StoppedStream]], writer: LogWriter
) -> AbstractContextManager[object]:
    """Serve metrics and health, if --http is given."""
    if not options.http:
        return nullcontext()
    # Imported here, as without --http none of it is needed.
    from g3stream.service.disk_space import DiskSpace
    from g3stream.service.http_server import serve_if_possible
    from ingest.metrics import metrics, problems

    disks = DiskSpace()
    return serve_if_possible(
        options.http,
        lambda: metrics(statuses(), writer.status(), options.spool_dir, disks, time.time()),
        lambda: problems(statuses(), writer.status(), time.time()),
    )
