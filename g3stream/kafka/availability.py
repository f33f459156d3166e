"""Outages of Kafka: the client settings to survive one, and its cause in words.

A client's `error_cb` receives more about the cause than the failed request.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

AVAILABILITY_CONFIG: Mapping[str, str | int | bool] = {
    "reconnect.backoff.max.ms": 1_000,  # how soon a broker that is back is found
    # No client waits for a broker that is silent, as after a power cut of its host: as long as a client takes its
    # connection to a broker for good, it sends requests to that broker and to no other.
    "socket.timeout.ms": 4_000,
}
PRODUCER_AVAILABILITY_CONFIG: Mapping[str, str | int | bool] = {
    # A record that a dying broker takes with it was not acknowledged, and a record that is sent again isn't doubled.
    "enable.idempotence": True,
    "acks": "all",
    "topic.metadata.refresh.interval.ms": 2_000,  # how soon another leader is known
    **AVAILABILITY_CONFIG,
}
NO_ANSWER_ERRORS = (
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._WAIT_COORD,
)
"""Errors of requests that no broker answered."""


def producer_error(error: KafkaException | SystemError) -> KafkaException:
    """Return the error that a call of a producer raised. Raises a SystemError that has another cause.

    confluent-kafka raises a fatal error from any call that serves acknowledgements, and wraps it in a SystemError if
    that call has served another acknowledgement since. It isn't passed to `error_cb`.
    """
    if isinstance(error, KafkaException):
        return error
    if isinstance(error.__cause__, KafkaException):
        return error.__cause__
    raise error


@contextmanager
def unwrap_fatal_errors() -> Iterator[None]:
    """Raise a producer's fatal error as a KafkaException."""
    try:
        yield
    except SystemError as error:
        raise producer_error(error) from None


class ConnectionErrors:
    """The latest known cause why no broker answers. For any thread."""

    def __init__(self) -> None:
        self._cause = ""

    def record(self, error: KafkaError) -> None:
        """Record an error that `error_cb` received."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._cause = error.str()
        elif not self._cause:
            # A TLS or SASL listener doesn't answer a client that uses neither, and librdkafka reports nothing then.
            # For a broker process that is stopped or hangs, the kernel still accepts connections.
            self._cause = (
                "connections are made, but no broker answers on them: they hang, or they require TLS or SASL "
                "(then it must be set in --kafka-config)"
            )

    def describe(self, error: KafkaError) -> str:
        """Return why a request failed: its error or, if no broker answered, the cause of that."""
        return self._cause if self._cause and error.code() in NO_ANSWER_ERRORS else error.str()
