"""Records that break the contract (g3stream/contract/headers.py); readers skip those in quarantine.

Each reader of a stream (the archiver, replay, repair, verify, close) stops at such a record, reads the stream's
quarantine topic, and continues if the record is there.
"""

from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import KafkaException, Message

from archiver.kafka.topic_reader import TopicReader, record_headers
from g3stream.contract.headers import RecordHeaders, digest_of
from g3stream.contract.topics import ContractError

QUARANTINE_POLL_SECONDS = 5.0


def invalid_record_message(stream: str, offset: int, why: str) -> str:
    """The message for a stream that can't be read on, with what to do."""
    return (
        f"at offset {offset}: {why}. Not ours, and of no later version? "
        f"`archiver quarantine --stream {stream} --offset {offset}` skips it, and recording continues"
    )


class HeaderReader:
    """Parses the headers of a stream's records, for readers outside the group."""

    def __init__(self, reader: TopicReader, stream: str) -> None:
        self.quarantined = 0
        """How many records were in quarantine."""
        self._reader = reader
        self._stream = stream
        self._in_quarantine: frozenset[str] = frozenset()

    def read(self, message: Message) -> RecordHeaders | None:
        """Parse a record's headers; None if it is in quarantine.

        Raises ContractError, which says what to do, KafkaException.
        """
        try:
            return record_headers(message)
        except ContractError as error:
            digest = digest_of(message)
            if digest not in self._in_quarantine:
                self._in_quarantine = self._reader.quarantined_digests(self._stream)
            if digest not in self._in_quarantine:
                raise ContractError(invalid_record_message(self._stream, message.offset() or 0, str(error))) from None
        self.quarantined += 1
        return None


class InvalidRecord:
    """A record that breaks the contract, at which a recording has stopped until it is in quarantine."""

    def __init__(self, message: Message, why: str, query: Callable[[], Future[frozenset[str]]]) -> None:
        """query: starts reading the quarantine topic's digests, on another thread."""
        self.offset = message.offset() or 0
        self.why = why
        """What is wrong with it."""
        self._digest = digest_of(message)
        self._query = query
        self._pending_query: Future[frozenset[str]] | None = None
        self._query_again_at_s = 0.0

    def is_in_quarantine(self, now: float) -> bool | None:
        """Whether it is in quarantine by now; None until that is known. now: s, monotonic."""
        if self._pending_query is None:
            if now >= self._query_again_at_s:
                self._pending_query = self._query()
            return None
        if not self._pending_query.done():
            return None
        answer, self._pending_query = self._pending_query, None
        self._query_again_at_s = now + QUARANTINE_POLL_SECONDS
        try:
            return self._digest in answer.result()
        except KafkaException:  # Kafka is unavailable, which is reported elsewhere, or we may not read the topic
            return False
