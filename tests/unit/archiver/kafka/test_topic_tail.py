"""Reading the ends of topics."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from archiver.kafka.topic_tail import repeat_if_deleted


def test_a_topic_that_is_deleted_meanwhile_is_left_out() -> None:
    topics = ["a", "b"]

    def read() -> list[str]:
        listed = [*topics]
        if "b" in topics:
            topics.remove("b")  # deleted by somebody else
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return listed

    assert repeat_if_deleted(read) == ["a"]


@pytest.mark.parametrize("code", [KafkaError.REQUEST_TIMED_OUT, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_an_error_that_stays_is_raised(code: int) -> None:
    asked = []

    def read() -> None:
        asked.append(code)
        raise KafkaException(KafkaError(code))

    with pytest.raises(KafkaException):
        repeat_if_deleted(read)
    assert (len(asked) == 1) is (code == KafkaError.REQUEST_TIMED_OUT)
