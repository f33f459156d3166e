"""Configuration of Kafka clients: the operator's settings and the program's own, merged and validated."""

import argparse
import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, Producer

from g3stream.kafka.client_properties import redact_values


def kafka_client_config(
    options: argparse.Namespace, ours: Mapping[str, str | int | bool]
) -> dict[str, str | int | bool]:
    """Return a librdkafka configuration: the operator's settings override `ours`, the flag overrides the file.

    Only `allow.auto.create.topics` can't be overridden: topics created by a broker would have its defaults.
    librdkafka's own log lines go to the logger `kafka`, which drops all but critical ones.
    """
    config: dict[str, Any] = {"bootstrap.servers": "localhost:9092", **ours, **options.kafka_config}
    if options.bootstrap_servers:
        config["bootstrap.servers"] = options.bootstrap_servers
    config["allow.auto.create.topics"] = False
    config["logger"] = _LIBRDKAFKA
    # Lines that the logger drops must not be queued: a client that isn't polled would keep them all.
    config.setdefault("log_level", _LIBRDKAFKA_LEVEL)
    return config


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


_BROKER_SETTINGS = ("bootstrap.servers", "metadata.broker.list")


def _librdkafka_logger() -> logging.Logger:
    logger = logging.getLogger("kafka")
    # Its lines repeat at every retry, once per broker thread; this program's own lines report what matters.
    logger.setLevel(logging.CRITICAL)
    return logger


_LIBRDKAFKA_LEVEL = 2
"""syslog's level "critical", as the logger's."""
_LIBRDKAFKA = _librdkafka_logger()
