"""Records that break the contract, and which of them readers leave out: those that are in quarantine.

What that is, g3stream/contract/headers.py says. Each reader of a stream (the archiver, replay, repair, verify, close)
stops at such a record, looks into the stream's quarantine topic, and goes on if it is there.
"""

from collections.abc import Callable
from concurrent.futures import Future

from confluent_kafka import KafkaException, Message

from archiver.kafka.topic_reader import TopicReader, record_headers
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import RecordHeaders, record_digest
from g3stream.contract.message_headers import headers_of

QUARANTINE_POLL_SECONDS = 5.0


def digest_of(message: Message) -> str:
    """As `record_digest`."""
    try:
        headers = headers_of(message)
    except ContractError:
        headers = None
    return record_digest(message.timestamp()[1], message.key(), message.value(), headers)


def invalid_record_message(stream: str, offset: int, why: str) -> str:
    """What to say of a stream that can't be read on, and what to do."""
    return (
        f"at offset {offset}: {why}. Not ours, and of no later version? "
        f"`archiver quarantine --stream {stream} --offset {offset}` sets it aside, and recording goes on"
    )


class HeaderReader:
    """The labels of a stream's records, for whoever reads it by itself. quarantined: how many were in quarantine."""

    def __init__(self, reader: TopicReader, stream: str) -> None:
        self.quarantined = 0
        self._reader = reader
        self._stream = stream
        self._in_quarantine: frozenset[str] = frozenset()

    def read(self, message: Message) -> RecordHeaders | None:
        """None if it is in quarantine. Raises ContractError, which says what to do, KafkaException."""
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
    """A record that breaks the contract, at which a recording stands; asks, on another thread, whether it is in
    quarantine by now. why: what is wrong with it. query: begins to look into the quarantine topic."""

    def __init__(self, message: Message, why: str, query: Callable[[], Future[frozenset[str]]]) -> None:
        self.offset = message.offset() or 0
        self.why = why
        self._digest = digest_of(message)
        self._query = query
        self._pending_query: Future[frozenset[str]] | None = None
        self._query_again_at_s = 0.0

    def is_in_quarantine(self, now: float) -> bool | None:
        """None until it is known. now: s, monotonic."""
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
        except KafkaException:  # away, or not for us to read; whoever records hears of the former elsewhere
            return False
