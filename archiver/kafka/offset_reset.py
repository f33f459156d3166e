"""Streams of which Kafka no longer has what was to be read next: retention was faster, or the topic was made anew."""

from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from g3stream.contract.headers import frames_topic

_ASK_SECONDS = 2.0
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC)


class Overtaken:
    """They are read on at their earliest record, as soon as Kafka says which that is.

    For the thread that polls the consumer. complain: is told why Kafka says nothing, unless the topic is gone.
    """

    def __init__(self, complain: Callable[[KafkaError], None]) -> None:
        self._complain = complain
        self._streams: set[str] = set()

    def add(self, stream: str) -> None:
        """librdkafka has said so of this stream, which is assigned to us."""
        self._streams.add(stream)

    def let_go(self, streams: Iterable[str]) -> None:
        """These are assigned to us no longer."""
        self._streams.difference_update(streams)

    def read_on(self, consumer: Consumer) -> Iterator[tuple[str, int]]:
        """Read on those for which it can be done now; gives each of them, and the offset of its earliest record.

        The others have to wait until they are asked for again, not all streams for them: of a topic that has been
        deleted meanwhile Kafka will never say anything.
        """
        for stream in sorted(self._streams):
            partition = TopicPartition(frames_topic(stream), 0)
            try:
                earliest, _ = consumer.get_watermark_offsets(partition, timeout=_ASK_SECONDS) or (0, 0)
            except KafkaException as error:
                if error.args[0].code() in _GONE:
                    continue  # the group is about to take it from us
                self._complain(error.args[0])
                return
            # After its error librdkafka has stopped fetching, and refuses to seek.
            consumer.incremental_unassign([partition])
            consumer.incremental_assign([TopicPartition(partition.topic, 0, earliest)])
            consumer.resume([partition])
            self._streams.remove(stream)
            yield stream, earliest
