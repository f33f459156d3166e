"""Publishes a process's reports on g3.status at regular intervals, on a thread of its own.

Best effort: nothing waits for it, and a report that Kafka doesn't acknowledge is replaced by the next one.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, Producer

from g3stream.contract.program_status import INTERVAL_S, ProgramStatus, encode
from g3stream.contract.topics import STATUS_TOPIC, STATUS_TOPIC_CONFIG
from g3stream.host.environment import now_ms
from g3stream.kafka.client_config import AVAILABILITY_CONFIG
from g3stream.kafka.errors import NO_SUCH_TOPIC, Operation, is_refusal, topic_right, with_right
from g3stream.kafka.topic_admin import TopicAdmin

log = logging.getLogger(__name__)

_REFUSED_SECONDS = 300.0
"""How long to wait after a refusal, which an operator has to change."""
_REQUEST_SECONDS = 4.0
_STOP_SECONDS = 1.0
_PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    **AVAILABILITY_CONFIG,
    "acks": "all",
    "enable.idempotence": False,
    "message.timeout.ms": round(INTERVAL_S * 900),  # shorter than the interval: no report arrives after the next one
}


def create_status_topic(admin: TopicAdmin) -> None:
    """Create the topic, if it is missing. Raises KafkaException."""
    found = admin.client.list_topics(STATUS_TOPIC, timeout=_REQUEST_SECONDS).topics[STATUS_TOPIC]
    if found.error and found.error.code() in NO_SUCH_TOPIC:
        admin.create(STATUS_TOPIC, STATUS_TOPIC_CONFIG, None)
    elif found.error:
        raise KafkaException(found.error)


class StatusPublisher:
    """A context manager with a thread that publishes reports until its end, and then that the programs have stopped.

    config: librdkafka settings of any client. reports: returns the present reports.
    """

    def __init__(self, config: Mapping[str, Any], reports: Callable[[], Iterable[ProgramStatus]]) -> None:
        self._config = config
        self._reports = reports
        self._stop_requested = threading.Event()
        self._failed = False  # the process ends because of an error
        self._last: list[ProgramStatus] = []
        self._refused: KafkaError | None = None
        self._logged = False  # a refusal is logged once: nothing that records depends on it
        self._thread = threading.Thread(target=self._run, name="status publisher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self._failed = error is not None
        self._stop_requested.set()
        self._thread.join(2 * _STOP_SECONDS)

    def _run(self) -> None:
        while not self._stop_requested.is_set():
            try:
                create_status_topic(TopicAdmin(self._config))
                self._publish_until_refused(Producer({**self._config, **_PRODUCER_CONFIG}))
            except KafkaException as error:
                self._refused = error.args[0]
            except Exception:  # no error may end the reports silently; recording continues without them
                text = "the status can't be published on %s now; recording continues, still trying"
                log.exception(text, STATUS_TOPIC)
            refused, self._refused = self._refused, None
            if refused is None or not is_refusal(refused):
                self._stop_requested.wait(INTERVAL_S)
                continue
            if not self._logged:
                self._logged = True
                why = with_right(refused, topic_right(Operation.WRITE, STATUS_TOPIC)).str()
                text = "recording continues, but no status is published on %s, which `archiver status` shows: %s"
                log.warning(text, STATUS_TOPIC, why)
            self._stop_requested.wait(_REFUSED_SECONDS)

    def _publish_until_refused(self, producer: Producer) -> None:
        """Publish all reports in each interval, until there is no such topic, or its ACLs forbid it, or at a stop."""
        is_last = False
        while not (is_last or self._refused):
            is_last = self._stop_requested.is_set()
            if is_last and not self._failed:
                self._last = [report.as_stopped(now_ms()) for report in self._last]
            else:
                self._last = [*self._reports()]
            for report in self._last:
                producer.produce(
                    STATUS_TOPIC, encode(report), report.key.encode(), partition=0, on_delivery=self._on_delivery
                )
            if is_last:
                producer.flush(_STOP_SECONDS)
            until_s = time.monotonic() + INTERVAL_S
            while not (self._stop_requested.is_set() or self._refused) and time.monotonic() < until_s:
                producer.poll(0)
                self._stop_requested.wait(min(1.0, max(0.0, until_s - time.monotonic())))

    def _on_delivery(self, error: KafkaError | None, _message: object) -> None:
        if error and (is_refusal(error) or error.code() in NO_SUCH_TOPIC):
            self._refused = error
