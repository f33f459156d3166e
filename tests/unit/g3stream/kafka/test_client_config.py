"""Kafka client configuration: which setting wins, and the message for one that librdkafka refuses."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from g3stream.kafka.client_config import describe_kafka_error, kafka_client_config
from g3stream.service.arguments import EnvArgumentParser


def test_which_kafka_setting_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("LOGLEVEL", raising=False)
    command = EnvArgumentParser("tool", "what it does")
    command.add_kafka_options()
    path = tmp_path / "client.properties"
    path.write_text("bootstrap.servers=file:1\nlinger.ms=9\n")
    ours: Mapping[str, str | int | bool] = {"linger.ms": 2, "acks": "all"}

    def config(*args: str) -> dict[str, object]:
        return dict(kafka_client_config(command.parse_args(args), ours))

    plain = config()
    assert (plain["bootstrap.servers"], plain["linger.ms"], plain["acks"]) == ("localhost:9092", 2, "all")
    filed = config("--kafka-config", str(path))
    assert (filed["bootstrap.servers"], filed["linger.ms"], filed["acks"]) == ("file:1", "9", "all")
    flagged = config("--kafka-config", str(path), "--bootstrap-servers", "flag:1")
    assert (flagged["bootstrap.servers"], flagged["linger.ms"]) == ("flag:1", "9")


REFUSED = [
    ({"security.protocol": "hunter2"}, 'Invalid value "…" for configuration property "security.protocol"'),
    ({"debug": "broker,hunter2"}, 'Invalid value "…" for configuration property "debug"'),
    ({"compression.type": "hunter.two"}, 'Invalid value "…" for configuration property "compression.codec"'),
    ({"partitioner": "hunter2"}, 'Invalid value for configuration property "partitioner": …'),
    ({"security.protocol": 'hunt"er 2'}, 'Invalid value "…" for configuration property "security.protocol"'),
    (
        {"socket.timeout.ms": "99999999999"},  # librdkafka quotes another number
        'Configuration property "socket.timeout.ms" value … is outside allowed range 10..300000',
    ),
    ({"socket.timeout.ms": "hunter2"}, 'Invalid value for configuration property "socket.timeout.ms"'),
    ({"no.such.setting": "hunter2"}, 'No such configuration property: "no.such.setting"'),
]


@pytest.mark.parametrize(("properties", "message"), REFUSED)
def test_librdkafkas_message_about_a_setting_is_shown_without_its_value(
    properties: dict[str, str], message: str
) -> None:
    with pytest.raises(KafkaException) as refused:
        Producer({**properties})
    options = argparse.Namespace(kafka_config=properties)
    assert describe_kafka_error(refused.value, options) == message
