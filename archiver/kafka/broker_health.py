"""Whether Kafka answers: librdkafka tells only of what goes wrong, so when it is over has to be found out."""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.authorization import is_refusal
from g3stream.kafka.availability import NO_ANSWER_ERRORS, ConnectionErrors

log = logging.getLogger(__name__)

_SAY_SECONDS = 5.0
_ASK_SECONDS = 2.0


class Trouble:
    """servers: Kafka's, as clients take them. now: what was last heard of them, if that wasn't good. For the thread
    that uses the clients; `now` for any."""

    def __init__(self, servers: str) -> None:
        self.now: str | None = None
        self._servers = servers
        self._outage = ConnectionErrors()
        self._said, self._said_what = 0.0, ""
        self._may_be_over = False  # a broker's answer, to whatever, would be the end of it
        self._asking = ThreadPoolExecutor(1, "asking")
        self._asked: Future[object] | None = None

    def client_error(self, error: KafkaError) -> None:
        """A client's `error_cb`."""
        self._outage.record(error)
        if error.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL):
            self.met(error)

    def met(self, error: KafkaError, *, over_with_an_answer: bool = True) -> None:
        """A request has failed. over_with_an_answer: whether that is over when a broker answers, to whatever."""
        self.now, self._may_be_over = self._outage.describe(error), over_with_an_answer
        now = time.monotonic()
        # That ACLs forbid something a consumer hears only once.
        if now - self._said >= _SAY_SECONDS or (is_refusal(error) and self.now != self._said_what):
            self._said, self._said_what = now, self.now
            log.warning("Kafka at %s: %s; still trying", self._servers, self.now)

    def see_whether_it_is_over(self, admin: AdminClient) -> None:
        """It may be long until a record comes; so a broker is asked, on another thread."""
        if not (self.now and self._may_be_over):
            return
        if self._asked is None:
            # Not describe_cluster, which needs no thread: with an overloaded broker librdkafka 2.16 ended the process
            # (rd_kafka_admin_response_parse: Assertion `rko_result' failed).
            self._asked = self._asking.submit(admin.list_topics, FILES_TOPIC, timeout=_ASK_SECONDS)
        elif self._asked.done():
            error, self._asked = self._asked.exception(), None
            if not (isinstance(error, KafkaException) and error.args[0].code() in NO_ANSWER_ERRORS):
                self.now = None

    def close(self) -> None:
        """Ask no more."""
        self._asking.shutdown(wait=False)
