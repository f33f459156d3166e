"""A producer's fatal error, as confluent-kafka raises it."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from g3stream.kafka.errors import unwrap_fatal_errors

FATAL = KafkaException(KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED, fatal=True))


@pytest.mark.parametrize("callbacks", range(4))
def test_it_is_found_however_many_callbacks_were_called_since(callbacks: int) -> None:
    error: Exception = FATAL
    for _ in range(callbacks):
        wrapped = SystemError("returned a result with an exception set")
        wrapped.__cause__ = error
        error = wrapped
    with pytest.raises(KafkaException) as raised, unwrap_fatal_errors():
        raise error
    assert raised.value is FATAL


def test_another_system_error_stays() -> None:
    with pytest.raises(SystemError), unwrap_fatal_errors():
        raise SystemError("another one") from ValueError("not of Kafka")
