"""Whether Kafka answers: librdkafka reports only errors, so their end must be detected by a request."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from g3stream.contract.topics import FILES_TOPIC
from g3stream.host.durations import format_duration
from g3stream.kafka.client_config import AVAILABILITY_CONFIG, CONNECTED_CONFIG
from g3stream.kafka.errors import NO_ANSWER_ERRORS, ConnectionErrors, is_refusal
from g3stream.kafka.topic_admin import TopicAdmin
from g3stream.log.throttle import LogThrottle
from g3stream.service.timeouts import start_call

log = logging.getLogger(__name__)

_LOG_INTERVAL_SECONDS = 5.0
_REQUEST_SECONDS = 2.0
_OUTAGE_ERRORS = (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL)


class BrokerHealth:
    """The latest error of Kafka's brokers; for the thread that uses the clients, `error` for any."""

    def __init__(self, config: Mapping[str, Any], away_since_s: float | None = None) -> None:
        """config: librdkafka's settings, for the client that sends the requests. away_since_s: as the attribute."""
        self.config = {**config, "error_cb": self.on_client_error}
        """librdkafka's settings for the clients whose errors are noted."""
        self.admin = TopicAdmin({**CONNECTED_CONFIG, **AVAILABILITY_CONFIG, **self.config})
        self.error: str | None = None
        """None while Kafka answers."""
        self.away_since_s = away_since_s
        """When an outage began that was logged, until its end is; of the monotonic clock."""
        self._servers = config["bootstrap.servers"]
        self._outage = ConnectionErrors()
        self._throttle = LogThrottle(_LOG_INTERVAL_SECONDS)
        self._clears_on_answer = False  # any answer of a broker ends the error
        self._probe: Future[object] | None = None

    def on_client_error(self, error: KafkaError) -> None:
        """Handle a client's error; its `error_cb`."""
        self._outage.record(error)
        if error.code() in _OUTAGE_ERRORS:
            self.on_error(error)

    def on_error(self, error: KafkaError, *, clears_on_answer: bool = True) -> None:
        """Note that a request has failed; clears_on_answer: whether any answer of a broker ends the error."""
        self.error, self._clears_on_answer = self._outage.describe(error), clears_on_answer
        now_s = time.monotonic()
        # A consumer reports only once that ACLs forbid something.
        if self._throttle.due(now_s, self.error if is_refusal(error) else ""):
            log.warning("Kafka at %s: %s; nothing is lost, still trying", self._servers, self.error)
            if self.away_since_s is None and error.code() in (*NO_ANSWER_ERRORS, *_OUTAGE_ERRORS):
                self.away_since_s = now_s

    def on_answer(self) -> None:
        """Note that a broker has answered: a record has arrived."""
        self.error = None

    def probe(self) -> None:
        """Send a request to a broker, on another thread: it may be long until a record arrives.

        Its answer also shows that an outage is over: a record that arrives may have been fetched before.
        """
        if self.away_since_s is None and not (self.error and self._clears_on_answer):
            return
        if self._probe is None:
            # Not describe_cluster, which needs no thread: with an overloaded broker librdkafka 2.16 ended the process
            # (rd_kafka_admin_response_parse: Assertion `rko_result' failed).
            request = partial(self.admin.client.list_topics, FILES_TOPIC, timeout=_REQUEST_SECONDS)
            self._probe = start_call("asking", request)
        elif self._probe.done():
            error, self._probe = self._probe.exception(), None
            if not (isinstance(error, KafkaException) and error.args[0].code() in NO_ANSWER_ERRORS):
                self._on_probe_answered()

    def _on_probe_answered(self) -> None:
        if self._clears_on_answer:
            self.error = None
        if self.away_since_s is not None and not self.error:
            away_ms = round(1000 * (time.monotonic() - self.away_since_s))
            log.info("Kafka at %s answers again, after %s", self._servers, format_duration(away_ms))
            self.away_since_s = None
            self._throttle.reset()  # the next outage is news
