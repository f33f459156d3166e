"""Configuration of Kafka clients: an operator's settings and the program's own, merged and checked."""

import argparse
import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, Producer

from g3stream.kafka.client_properties import redact_values


def kafka_client_config(
    options: argparse.Namespace, ours: Mapping[str, str | int | bool]
) -> dict[str, str | int | bool]:
    """A librdkafka configuration: an operator's settings win over `ours`, the flag over the file.

    Except that no client lets a broker create topics by itself, which would do so with its own defaults.

    librdkafka's own log lines go to the logger `kafka`, at debug level below errors that we report ourselves.
    """
    config: dict[str, Any] = {"bootstrap.servers": "localhost:9092", **ours, **options.kafka_config}
    if options.bootstrap_servers:
        config["bootstrap.servers"] = options.bootstrap_servers
    config["allow.auto.create.topics"] = False
    config["logger"] = _LIBRDKAFKA
    # What that logger drops isn't even queued: a client that isn't polled would keep it all.
    config.setdefault("log_level", _LIBRDKAFKA_LEVEL)
    return config


def describe_kafka_error(error: Exception, options: argparse.Namespace) -> str:
    """The text of a KafkaException; if it is about a setting, without the values, which may be secret."""
    kafka_error: KafkaError = error.args[0]
    text = kafka_error.str()
    return redact_values(text, options.kafka_config) if kafka_error.code() == KafkaError._INVALID_ARG else text


def validate_producer_config(config: Mapping[str, Any]) -> None:
    """Raise KafkaException if librdkafka doesn't take a producer's settings.

    It checks them only where a client is made, so one is. Without brokers: to give it up would wait until their names
    are resolved, and nothing is read meanwhile.
    """
    Producer({name: value for name, value in config.items() if name not in _BROKER_SETTINGS})


_BROKER_SETTINGS = ("bootstrap.servers", "metadata.broker.list")


def _librdkafka_logger() -> logging.Logger:
    logger = logging.getLogger("kafka")
    # Its lines repeat with every retry, once per broker thread; what matters is said by our own lines.
    logger.setLevel(logging.CRITICAL)
    return logger


_LIBRDKAFKA_LEVEL = 2
"""syslog's "critical", as the logger's."""
_LIBRDKAFKA = _librdkafka_logger()
