"""A stream's quarantine: the records that every reader skips (contract/headers.py)."""

from collections.abc import Callable

from confluent_kafka import Message

from g3stream.client.errors import NoSuchStreamError
from g3stream.client.source import Source
from g3stream.contract.headers import digest_of
from g3stream.contract.topics import quarantine_topic


class Quarantine:
    """Quarantine of one stream, read when a record breaks the contract. connect: makes the source of a topic."""

    def __init__(self, stream: str, connect: Callable[..., Source]) -> None:
        self._topic = quarantine_topic(stream)
        self._connect = connect
        self._digests: frozenset[str] = frozenset()

    def contains(self, message: Message) -> bool:
        """Return whether a record is in quarantine. Raises KafkaUnavailableError."""
        digest = digest_of(message)
        if digest not in self._digests:
            self._digests = self._read()
        return digest in self._digests

    def _read(self) -> frozenset[str]:
        source = self._connect(self._topic, group=None)
        try:
            return frozenset((it.key() or b"").decode() for it in source.read_range(*source.offset_range()))
        except NoSuchStreamError:
            return frozenset()
        finally:
            source.close()
