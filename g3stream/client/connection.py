"""How the library finds Kafka: brokers and client settings, as the programs take them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from g3stream.client.errors import KafkaSettingsError
from g3stream.kafka.client_properties import ClientPropertiesError, read_client_properties, translate_properties

KafkaConfig = str | Path | Mapping[str, str] | None
"""A file of Kafka client properties, or such properties."""


class Connection(TypedDict):
    """Arguments of a Source that say how to reach Kafka."""

    properties: Mapping[str, Any]
    bootstrap_servers: str | None
    timeout_s: float


def connection(bootstrap_servers: str | None, kafka_config: KafkaConfig, timeout_s: float) -> Connection:
    """Return how to reach Kafka. Raises KafkaSettingsError.

    bootstrap_servers: None for those of the environment's KAFKA_BOOTSTRAP_SERVERS, else those of the properties, else
    localhost:9092.
    """
    try:
        if kafka_config is None:
            properties: Mapping[str, str] = {}
        elif isinstance(kafka_config, Mapping):
            properties = translate_properties(kafka_config)
        else:
            properties = read_client_properties(Path(kafka_config))
    except ClientPropertiesError as error:
        raise KafkaSettingsError(str(error)) from None
    servers = bootstrap_servers or os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or None
    return {"properties": properties, "bootstrap_servers": servers, "timeout_s": timeout_s}
