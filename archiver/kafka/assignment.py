"""The partitions that are assigned to this archiver: paused, resumed and moved, each by itself.

A stream is paused while its recording can take no more. One of which Kafka no longer has what was to be read next
(retention was faster, or the topic was made again) is read on at its earliest record.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from g3stream.contract.topics import frames_topic

_REPORT_AFTER_SECONDS = 5.0
_REQUEST_SECONDS = 2.0
_GONE = (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC)


class AssignedPartitions:
    """For the thread that polls the consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._seek_errors: dict[str, tuple[float, str]] = {}

    def pause(self, stream: str) -> None:
        """Deliver no more of it until `resume`."""
        self._consumer.pause([TopicPartition(frames_topic(stream), 0)])

    def resume(self, stream: str, offset: int) -> bool:
        """Deliver it again, from that offset on. Gives whether that could be done: not for some ms after its
        assignment, while librdkafka hasn't begun to read it."""
        self._consumer.resume([TopicPartition(frames_topic(stream), 0)])
        # Also where it would go on by itself: only of this does the thread that fetches hear at once, not of the
        # other, for up to a second.
        if self.seek(stream, offset):
            return True
        self.pause(stream)
        return False

    def seek(self, stream: str, offset: int) -> bool:
        """Deliver it from that offset on. Gives whether that could be done.

        Only to an offset that is a number: OFFSET_BEGINNING has librdkafka look it up, and retry that after 0.5 s; a
        retry that is late, as the broker is some ms away, moves a partition that is being read (2.16).
        """
        try:
            self._consumer.seek(TopicPartition(frames_topic(stream), 0, offset))
        except KafkaException as error:
            since, _ = self._seek_errors.get(stream, (time.monotonic(), ""))
            self._seek_errors[stream] = since, error.args[0].str()
            return False
        self._seek_errors.pop(stream, None)
        return True

    def discard(self, streams: Iterable[str]) -> None:
        """These are assigned to us no longer."""
        for stream in streams:
            self._seek_errors.pop(stream, None)

    def resume_error(self, stream: str) -> str | None:
        """Why it can't be resumed, if that has been so for long. For any thread."""
        since, why = self._seek_errors.get(stream, (0.0, ""))
        return why if why and time.monotonic() - since > _REPORT_AFTER_SECONDS else None


class OffsetReset:
    """They are read on at their earliest record, as soon as Kafka says which that is.

    For the thread that polls the consumer. on_error: is told why Kafka says nothing, unless the topic is gone.
    """

    def __init__(self, on_error: Callable[[KafkaError], None]) -> None:
        self._on_error = on_error
        self._streams: set[str] = set()

    def add(self, stream: str) -> None:
        """librdkafka has said so of this stream, which is assigned to us."""
        self._streams.add(stream)

    def discard(self, streams: Iterable[str]) -> None:
        """These are assigned to us no longer."""
        self._streams.difference_update(streams)

    def apply(self, consumer: Consumer) -> Iterator[tuple[str, int]]:
        """Read on those for which it can be done now; gives each of them, and the offset of its earliest record.

        The others have to wait until they are asked for again, not all streams for them: of a topic that has been
        deleted meanwhile Kafka will never say anything.
        """
        for stream in sorted(self._streams):
            partition = TopicPartition(frames_topic(stream), 0)
            try:
                earliest, _ = consumer.get_watermark_offsets(partition, timeout=_REQUEST_SECONDS) or (0, 0)
            except KafkaException as error:
                if error.args[0].code() in _GONE:
                    continue  # the group is about to take it from us
                self._on_error(error.args[0])
                return
            # After its error librdkafka has stopped fetching, and refuses to seek.
            consumer.incremental_unassign([partition])
            consumer.incremental_assign([TopicPartition(partition.topic, 0, earliest)])
            consumer.resume([partition])
            self._streams.remove(stream)
            yield stream, earliest
