"""Configuration of Kafka clients: the operator's settings and the program's own, merged and validated."""

import argparse
import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from g3stream.kafka.client_properties import redact_values
from g3stream.kafka.errors import ConnectionErrors

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
CONNECTED_CONFIG: Mapping[str, str | int | bool] = {
    # Connect to each broker as soon as it is known: with sparse connections a new client waits 50 ms before it makes
    # its second connection.
    "enable.sparse.connections": False,
}
_BROKER_SETTINGS = ("bootstrap.servers", "metadata.broker.list")
_LIBRDKAFKA = logging.getLogger("kafka")
# Its lines repeat at every retry, once per broker thread; this program's own lines report what matters.
_LIBRDKAFKA.setLevel(logging.CRITICAL)
_LIBRDKAFKA_LEVEL = 2
"""syslog's level "critical", as the logger's."""


def kafka_client_config(options: argparse.Namespace, ours: Mapping[str, str | int | bool]) -> dict[str, Any]:
    """Return a librdkafka configuration: the operator's settings override `ours`, the flag overrides the file.

    Only `allow.auto.create.topics` can't be overridden: topics created by a broker would have its defaults.
    librdkafka's own log lines go to the logger `kafka`, which drops all but critical ones.
    """
    return client_config(options.kafka_config, options.bootstrap_servers, ours)


def client_config(
    properties: Mapping[str, Any], bootstrap_servers: str | None, ours: Mapping[str, str | int | bool]
) -> dict[str, Any]:
    """Return a librdkafka configuration, as `kafka_client_config` does. properties: the operator's settings."""
    config: dict[str, Any] = {"bootstrap.servers": "localhost:9092", **ours, **properties}
    if bootstrap_servers:
        config["bootstrap.servers"] = bootstrap_servers
    config["allow.auto.create.topics"] = False
    config["logger"] = _LIBRDKAFKA
    # Lines that the logger drops must not be queued: a client that isn't polled would keep them all.
    config.setdefault("log_level", _LIBRDKAFKA_LEVEL)
    return config


def reading_config(options: argparse.Namespace) -> tuple[dict[str, Any], Callable[[KafkaException], str]]:
    """Return a configuration of clients that only read, and what says in words why one of their requests failed."""
    outage = ConnectionErrors()
    config = {**kafka_client_config(options, {}), "error_cb": outage.record}

    def describe(error: KafkaException) -> str:
        return f"Kafka at {config['bootstrap.servers']}: {outage.describe(error.args[0])}"

    return config, describe


def describe_kafka_error(error: Exception, options: argparse.Namespace) -> str:
    """Return the text of a KafkaException; if it is about a setting, without values, which may be secret."""
    kafka_error: KafkaError = error.args[0]
    text = kafka_error.str()
    return redact_values(text, options.kafka_config) if kafka_error.code() == KafkaError._INVALID_ARG else text


def validate_producer_config(config: Mapping[str, Any]) -> None:
    """Raise KafkaException if librdkafka refuses a producer's settings.

    librdkafka validates settings only when a client is made, so this makes one, without brokers: to close a client
    with brokers waits until their names are resolved, and nothing is read meanwhile.
    """
    Producer({name: value for name, value in config.items() if name not in _BROKER_SETTINGS})
