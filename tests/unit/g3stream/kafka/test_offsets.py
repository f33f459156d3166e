"""Commits are asked for until the group's coordinator is known: no broker is without one when a test needs it."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from g3stream.kafka.offsets import committed_offsets


class Scripted:
    """A consumer. errors: of its answers, one after the other; the last one repeats."""

    def __init__(self, *errors: int | None) -> None:
        self._errors = list(errors)

    def committed(self, partitions: list[Any], timeout: float) -> list[Any]:
        del timeout
        code = self._errors.pop(0) if len(self._errors) > 1 else self._errors[0]
        error = None if code is None else KafkaError(code)
        return [SimpleNamespace(topic=each.topic, offset=7, error=error) for each in partitions]


def asked(consumer: Scripted, seconds: float) -> list[int]:
    return [found.offset for found in committed_offsets(cast("Consumer", consumer), ["a", "b"], seconds)]


def test_a_coordinator_that_moves_is_awaited() -> None:
    consumer = Scripted(KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, None)
    assert asked(consumer, 60) == [7, 7]


@pytest.mark.parametrize(
    ("code", "seconds"), [(KafkaError.NOT_COORDINATOR, 0), (KafkaError.GROUP_AUTHORIZATION_FAILED, 60)]
)
def test_what_stays_and_what_is_another_error_is_raised(code: int, seconds: float) -> None:
    with pytest.raises(KafkaException) as raised:
        asked(Scripted(code), seconds)
    assert raised.value.args[0].code() == code
