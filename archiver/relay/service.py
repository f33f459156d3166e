"""The process `archiver relay`: a thread that reads, the server for clients, the HTTP server, and the exit code."""

import argparse
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Final, TypeVar

from confluent_kafka import KafkaException

import g3stream
from archiver.kafka.topic_reader import TopicReader
from archiver.relay.frames import Selection
from archiver.relay.history_feed import HistoryFeed
from archiver.relay.latest_before import latest_before
from archiver.relay.live_feed import LiveFeed
from archiver.relay.live_stream import LiveStream
from archiver.relay.metrics import RelayStatus, metrics, problems
from archiver.relay.reading import LiveReader, ReadingReport, StreamReading
from archiver.relay.server import Feed, RelayServer
from g3stream.host.environment import insufficient_resources
from g3stream.kafka.client_config import describe_kafka_error, reading_config, validate_producer_config
from g3stream.kafka.errors import NO_SUCH_TOPIC
from g3stream.log.setup import service_log
from g3stream.service.endpoint import ListenError, host_and_port
from g3stream.service.http_server import HttpServer
from g3stream.service.process_exit import end_process
from g3stream.service.stop_signals import StopSignals
from g3stream.service.timeouts import call_unless_stopped

T = TypeVar("T")

log = logging.getLogger(__name__)

_GROUP: Final = "relay"
"""librdkafka requires the name of a group; nothing is joined or committed."""
_THREADS: Final = 20
_THREADS_SINCE: Final = 8
"""Further ones of each client with --since: its Kafka client's, with three brokers, and its own."""
_STOP_SECONDS: Final = 2.0
_RETRY_S: Final = 2.0


def serve(options: argparse.Namespace) -> int:
    """Run the command with its options (commands/relay.py) until a signal; ends the process with an exit code."""
    with StopSignals() as signals:
        code = _run(options, signals)
    end_process(code)


def _run(options: argparse.Namespace, signals: StopSignals) -> int:
    service_log(options.log_level, options.log_format)
    threads = _THREADS + (_THREADS_SINCE * options.max_clients if options.since else 0)
    if refusal := insufficient_resources(threads):
        log.error("the stream can't be served: %s", refusal)
        return 1
    try:
        validate_producer_config(reading_config(options)[0])
    except KafkaException as error:
        log.error("the stream can't be served: Kafka settings: %s", describe_kafka_error(error, options))
        return 1
    stopping = threading.Event()
    signals.on_stop(stopping.set)
    relay = _Relay(options, stopping)
    try:
        with relay.http():
            relay.serve()
    except (ListenError, g3stream.NoSuchStreamError) as error:
        log.error("the stream can't be served: %s", error)
        return 1
    log.info("stopped")
    return 0


class _Relay:
    """The parts of the process, made one after the other."""

    def __init__(self, options: argparse.Namespace, stopping: threading.Event) -> None:
        self._options = options
        self._stopping = stopping
        self._report = ReadingReport()
        self._selection = Selection.of(options.only, options.max_rate)
        self._server: RelayServer | None = None
        self._live: LiveFeed | None = None
        self._kafka_problem: Callable[[], str | None] = lambda: None

    def http(self) -> AbstractContextManager[object]:
        """Return the HTTP server, if one is wanted. Raises ListenError."""
        where = self._options.http
        if where is None:
            return nullcontext()
        return HttpServer(where, lambda: metrics(self._status()), lambda: problems(self._status()))

    def serve(self) -> None:
        """Serve until a stop. Raises ListenError, NoSuchStreamError."""
        if self._options.since is None:
            self._serve_live()
        else:
            self._serve_history()

    def _serve_live(self) -> None:
        before = self._until_kafka_answers(lambda reader: latest_before(reader, self._options.stream))
        if before is None:
            return
        latest, position = before
        reading = self._reading(position)
        feed = LiveFeed(LiveStream(self._options.buffer, latest))
        with self._serving(feed, lambda: reading.problem):
            self._live = feed
            reader = LiveReader(reading, feed)
            reader.start()
            self._stopping.wait()
            reader.close(_STOP_SECONDS)

    def _serve_history(self) -> None:
        if self._until_kafka_answers(lambda reader: reader.offset_range(self._options.stream)) is None:
            return
        feed = HistoryFeed(lambda: self._reading(self._options.since), self._options.max_clients)
        with self._serving(feed, lambda: feed.problem):
            self._stopping.wait()

    @contextmanager
    def _serving(self, feed: Feed, kafka_problem: Callable[[], str | None]) -> Iterator[None]:
        """Context in which clients are served. Raises ListenError."""
        options = self._options
        with RelayServer(options.listen, feed, self._selection, options.max_clients) as self._server:
            self._kafka_problem = kafka_problem
            where = host_and_port(options.listen.host, self._server.port)
            log.info("%s is served at tcp://%s", options.stream, where)
            yield

    def _reading(self, since: g3stream.Since) -> StreamReading:
        options = self._options
        settings = {"bootstrap_servers": options.bootstrap_servers, "kafka_config": options.kafka_config}
        return StreamReading(options.stream, since, settings, self._report)

    def _until_kafka_answers(self, ask: Callable[[TopicReader], T]) -> T | None:
        """Return what `ask` returns, once Kafka answers; None after a stop. Raises NoSuchStreamError."""
        options = self._options
        config, describe = reading_config(options)
        reader = TopicReader(config, _GROUP)
        while not self._stopping.is_set():
            try:
                return call_unless_stopped(self._stopping, "start", lambda: ask(reader))
            except TimeoutError:
                break
            except KafkaException as error:
                if error.args[0].code() in NO_SUCH_TOPIC:
                    text = f"there is no stream {options.stream}: {describe(error)}"
                    raise g3stream.NoSuchStreamError(text) from None
                self._report.fail(describe(error))
            self._stopping.wait(_RETRY_S)
        return None

    def _status(self) -> RelayStatus:
        reading, server, live = self._report.status, self._server, self._live
        if reading.error is None:
            reading = replace(reading, error=self._kafka_problem())
        return RelayStatus(
            self._options.stream, server.status() if server else None, reading, live.status() if live else None
        )
