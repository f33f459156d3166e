"""The reason why Kafka refused a record, from the producer's error."""

from confluent_kafka import KafkaError

from g3stream.contract.topic_settings import ExpectedTopic, FoundTopic, Role, differences
from ingest.publish.refusal import Refusal

GAPLESS = (
    "ProduceRequest for {topic} [0] with 2 message(s) failed: {why} (broker 1 PID{{Id:3,Epoch:0}}, base seq 0): "
    "unable to satisfy gap-less guarantee"
)
"""The text of librdkafka 2.12."""


def test_a_gap_in_the_order_names_the_topic_and_the_brokers_reason() -> None:
    text = GAPLESS.format(topic="g3.frames.s", why="Broker: Invalid timestamp")
    refusal = Refusal.of(KafkaError(KafkaError._GAPLESS_GUARANTEE, text))
    assert refusal == Refusal("g3.frames.s", "Broker: Invalid timestamp")


def test_another_error_is_shown_as_it_is() -> None:
    refusal = Refusal.of(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), "g3.rejected.s")
    assert refusal == Refusal("g3.rejected.s", "Broker: Topic authorization failed")


def test_it_is_shown_with_the_command_that_fixes_its_cause_and_nothing_else() -> None:
    config = {
        "message.timestamp.before.max.ms": "1000",
        "message.timestamp.after.max.ms": "1000",
        "unclean.leader.election.enable": "true",
    }
    expected = ExpectedTopic("g3.frames.s", Role.FRAMES)
    found = differences(expected, FoundTopic({0: (1,)}, (1,), config), "kafka:9092")
    text = Refusal("g3.frames.s", KafkaError(KafkaError.INVALID_TIMESTAMP).str()).explain("g3.frames.s", found)
    assert text.startswith("Broker: Invalid timestamp; the topic g3.frames.s has message.timestamp.")
    assert "--add-config message.timestamp.before.max.ms=9223372036854775807" in text
    assert "--add-config message.timestamp.after.max.ms=9223372036854775807" in text
    assert "unclean" not in text
