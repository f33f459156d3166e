"""Kafka's outages: with what settings clients bear one, and why it is one.

A client's `error_cb` hears more of that than the request that failed.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

AVAILABILITY_CONFIG: Mapping[str, str | int | bool] = {
    "reconnect.backoff.max.ms": 1_000,  # how soon a broker that is back is found
    # A broker that says nothing any more, as its host lost power, isn't waited for, by none of the clients: for as
    # long as one holds a connection to it to be good, it asks that broker and no other.
    "socket.timeout.ms": 4_000,
}
PRODUCER_AVAILABILITY_CONFIG: Mapping[str, str | int | bool] = {
    # What a broker takes with it when it dies isn't acknowledged; and what is sent again isn't there twice.
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
"""Errors of a request that no broker has answered."""


@contextmanager
def unwrap_fatal_errors() -> Iterator[None]:
    """Raise a producer's fatal error as the KafkaException that it is: confluent-kafka raises it from whatever serves
    acknowledgements, and wrapped in a SystemError, if it has served another one since."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


class ConnectionErrors:
    """What is known of why no broker answers. For any thread."""

    def __init__(self) -> None:
        self._cause = ""

    def record(self, error: KafkaError) -> None:
        """What `error_cb` was given."""
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._cause = error.str()
        elif not self._cause:
            # A listener for TLS or SASL says nothing to a client that speaks neither, and librdkafka nothing to us;
            # and a broker whose process is stopped, or hangs, has its connections made by the kernel all the same.
            self._cause = (
                "connections are made, but no broker answers on them: they hang, or they want TLS or SASL "
                "(then --kafka-config must say so)"
            )

    def describe(self, error: KafkaError) -> str:
        """Why a request failed: its error, or, if no broker answered, the cause of that."""
        return self._cause if self._cause and error.code() in NO_ANSWER_ERRORS else error.str()
