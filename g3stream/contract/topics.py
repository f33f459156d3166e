"""The topics of a stream: their names, and the settings that they are created with.

The quarantine topic has the prefix of the frames topics, so that it is mirrored with them, under the same ACLs. It is
compacted, so that retention deletes none of it; mirrors keep that setting.
"""

import re
from collections.abc import Mapping
from functools import lru_cache


class ContractError(ValueError):
    """A name or a record that breaks the contract; the message says how, and escapes untrusted bytes."""


FILES_TOPIC = "g3.files"
STATUS_TOPIC = "g3.status"

_FRAMES_PREFIX = "g3.frames."
_REJECTED_PREFIX = "g3.rejected."
_QUARANTINE_SUFFIX = ".quarantine"
_STREAM = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_STREAM_NAME = re.compile(_STREAM)

FRAMES_TOPIC_PATTERN = "^g3\\.frames\\." + _STREAM + "$"
"""Regular expression for a consumer that subscribes to all streams, with new ones as they appear (librdkafka takes
a leading ^ for a regular expression)."""

_WIDE_OPEN_TIMESTAMPS = {
    # One timestamp that the broker finds out of range fails its whole batch, and clocks do step.
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
FRAMES_TOPIC_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": "1048588",
    **_WIDE_OPEN_TIMESTAMPS,
}
REJECTED_TOPIC_CONFIG: Mapping[str, str] = {
    **FRAMES_TOPIC_CONFIG,
    "retention.bytes": str(1 << 30),
    "segment.bytes": str(64 << 20),
}
QUARANTINE_TOPIC_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    "max.message.bytes": str(2 << 20),  # the largest record of a frames topic, with the note about it
    **_WIDE_OPEN_TIMESTAMPS,
}
FILES_TOPIC_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    **_WIDE_OPEN_TIMESTAMPS,
}

STATUS_TOPIC_CONFIG: Mapping[str, str] = {
    "cleanup.policy": "compact",
    # Only closed segments are compacted. A report of 500 bytes each 10 s from 40 programs is 1.2 MB in ten minutes.
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.1",
    **_WIDE_OPEN_TIMESTAMPS,
}


def stream_name(text: str) -> str:
    """Return the name if it is valid in topic names, directories and metric labels; else raise ContractError."""
    if not _STREAM_NAME.fullmatch(text):
        raise ContractError(
            f"{text[:80]!r} is no stream name: 1 to 64 of A-Z a-z 0-9 _ -, the first a letter or digit"
        )
    return text


def frames_topic(stream: str) -> str:
    """Return the name of the topic of a stream's records."""
    return _FRAMES_PREFIX + stream


def rejected_topic(stream: str) -> str:
    """Return the name of the topic of a stream's rejected frames, the damaged or invalid ones."""
    return _REJECTED_PREFIX + stream


def quarantine_topic(stream: str) -> str:
    """Return the name of the topic of a stream's quarantined records, which readers skip."""
    return _FRAMES_PREFIX + stream + _QUARANTINE_SUFFIX


@lru_cache(maxsize=1024)  # called for every record
def stream_of_topic(topic: str) -> str:
    """Return the stream of a frames topic. Raises ContractError for any other topic."""
    if not topic.startswith(_FRAMES_PREFIX):
        raise ContractError(f"{topic[:120]!r} is not a frames topic")
    return stream_name(topic.removeprefix(_FRAMES_PREFIX))
