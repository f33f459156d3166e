"""The process `archiver web`: threads that collect, the HTTP server, and its exit code."""

import argparse
import logging
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress

import uvicorn
from confluent_kafka import KafkaException
from starlette.types import ASGIApp

from archiver.catalog.update import CatalogUpdater
from archiver.console.arguments import catalog_path
from archiver.kafka.topic_reader import TopicReader
from archiver.web.app import Pages
from archiver.web.live import LivePage
from archiver.web.memory import limit_arenas, release_memory
from archiver.web.now.snapshot import SnapshotCollector
from archiver.web.now.view import now_view
from archiver.web.quicklook.client import QuickLookClient, fetch_from
from archiver.web.records.catalog_follower import CatalogFollower
from archiver.web.records.pages import Parts
from archiver.web.rendering import Renderer
from g3stream.host.environment import insufficient_resources, now_ms
from g3stream.kafka.client_config import describe_kafka_error, reading_config, validate_producer_config
from g3stream.log.setup import service_log
from g3stream.service.endpoint import ListenError, host_and_port, listen
from g3stream.service.process_exit import end_process
from g3stream.service.stop_signals import StopSignals

log = logging.getLogger(__name__)

_NICENESS = 10
"""Programs that record on the same host come first."""
_MAX_CONNECTIONS = 500
_MAX_REQUEST_BYTES = 16384
_THREADS = 40
"""Of Kafka's clients with three brokers, and of the requests."""


def serve(options: argparse.Namespace) -> int:
    """Run the command with its options (commands/web.py) until a signal; ends the process with its exit code."""
    with StopSignals() as signals:
        code = _run(options, signals)
    end_process(code)


def _run(options: argparse.Namespace, signals: StopSignals) -> int:
    service_log(options.log_level, options.log_format)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if refusal := insufficient_resources(_THREADS):
        log.error("the page can't be served: %s", refusal)
        return 1
    try:
        listener = listen(options.http)
    except ListenError as error:
        log.error("the page can't be served: %s", error)
        return 1
    with suppress(OSError):  # systemd may forbid it
        os.nice(_NICENESS)
    limit_arenas()
    config, describe = reading_config(options)
    quicklook = QuickLookClient(str(options.quicklook), fetch_from(options.quicklook)) if options.quicklook else None
    renderer = Renderer(options.group, has_quicklook=quicklook is not None)

    def render() -> Mapping[str, str]:
        return renderer.fragments(now_view(collector.latest, catalog.last_losses, now_ms()))

    def on_collected() -> None:
        release_memory()
        live.refresh()

    live = LivePage(render)
    collector = SnapshotCollector(config, options.group, options.stream, describe, on_collected)
    updater = CatalogUpdater(TopicReader(config, options.group), catalog_path(options), log.warning)
    catalog = CatalogFollower(updater, describe, live.refresh)
    try:
        validate_producer_config(config)
    except KafkaException as error:
        log.error("the page can't be served: Kafka settings: %s", describe_kafka_error(error, options))
        return 1
    catalog.start()
    collector.start()
    data_dir = str(options.data_dir) if options.data_dir else None
    app = Pages(live, Parts(renderer, catalog, lambda: collector.latest, data_dir), quicklook).app()
    log.info("the page is at http://%s/", host_and_port(options.http.host, options.http.port))
    has_served = _serve_until_stopped(app, listener, live, signals)
    collector.close()
    catalog.close()
    log.info("stopped")
    return 0 if has_served else 1


def _serve_until_stopped(app: ASGIApp, listener: socket.socket, live: LivePage, signals: StopSignals) -> bool:
    """Serve until a signal; return whether that was possible: uvicorn logs why not."""
    settings = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_CONNECTIONS,
        h11_max_incomplete_event_size=_MAX_REQUEST_BYTES,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(settings)

    def stop() -> None:
        server.should_exit = True
        live.close()

    # In a thread: in the main one, uvicorn would install signal handlers of its own.
    thread = threading.Thread(target=server.run, args=([listener],), name="http")
    thread.start()
    signals.on_stop(stop)
    thread.join()
    return server.started
