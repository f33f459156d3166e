"""The process `archiver quicklook`: a thread that looks, the HTTP server, and its exit code."""

import argparse
import logging
import os
import threading
import time
from contextlib import suppress
from typing import Final
from urllib.parse import parse_qs, unquote

import msgspec
from confluent_kafka import KafkaException

from archiver.quicklook.answers import answer
from archiver.quicklook.decoder_process import DecoderProcess
from archiver.quicklook.looker import Looker
from archiver.quicklook.metrics import metrics, problems, warnings
from g3stream.host.environment import insufficient_resources, now_ms
from g3stream.kafka.client_config import describe_kafka_error, reading_config, validate_producer_config
from g3stream.log.setup import service_log
from g3stream.service.endpoint import ListenError, host_and_port
from g3stream.service.http_server import HttpServer
from g3stream.service.process_exit import end_process
from g3stream.service.stop_signals import StopSignals

log = logging.getLogger(__name__)

_NICENESS: Final = 10
"""Programs that record on the same host come first; the decoder inherits it."""
_THREADS: Final = 16
_STOP_SECONDS: Final = 2.0


def serve(options: argparse.Namespace) -> int:
    """Run the command with its options (commands/quicklook.py) until a signal; ends the process with an exit code."""
    with StopSignals() as signals:
        code = _run(options, signals)
    end_process(code)


def _run(options: argparse.Namespace, signals: StopSignals) -> int:
    service_log(options.log_level, options.log_format)
    if refusal := insufficient_resources(_THREADS):
        log.error("quick look can't run: %s", refusal)
        return 1
    with suppress(OSError):  # systemd may forbid it
        os.nice(_NICENESS)
    config, describe = reading_config(options)
    try:
        validate_producer_config(config)
    except KafkaException as error:
        log.error("quick look can't run: Kafka settings: %s", describe_kafka_error(error, options))
        return 1
    decoder = DecoderProcess(options.python, clock=time.monotonic, now_ms=now_ms)
    looker = Looker(
        config,
        options.group,
        options.stream,
        decoder,
        describe,
        seconds=options.seconds,
        every_s=options.every,
        max_bytes=options.max_bytes,
    )

    def document(path: str, query: str) -> bytes | None:
        stream = path.removeprefix("/v1/").removesuffix(".json")
        if path != f"/v1/{stream}.json":
            return None
        channels = _channels(query) or options.channels
        found = answer(looker.state(), unquote(stream), channels, now_ms())
        return msgspec.json.encode(found) if found else None

    try:
        server = HttpServer(
            options.http,
            lambda: metrics(looker.state(), now_ms()),
            lambda: problems(looker.state(), now_ms()),
            lambda: warnings(looker.state()),
            document=document,
        )
    except ListenError as error:
        log.error("quick look can't run: %s", error)
        return 1
    stopped = threading.Event()
    with server:
        looker.start()
        log.info("looks are at http://%s/v1/STREAM.json", host_and_port(options.http.host, server.port))
        signals.on_stop(stopped.set)
        stopped.wait()
        looker.close(_STOP_SECONDS)
    log.info("stopped")
    return 0


def _channels(query: str) -> list[str]:
    """Return the channels that a URL's query asks for."""
    try:
        given = parse_qs(query, max_num_fields=10).get("channels", [])
    except ValueError:  # more fields
        given = []
    return [name for names in given for name in names.split(",") if name]
