"""The partitions that are assigned to this archiver: each is paused, resumed and seeked by itself.

A stream is paused while its recording is backpressured. If Kafka no longer has the next offset (retention was faster,
or the topic was created again), reading continues at the earliest record.
"""

import time
from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaError, KafkaException, TopicPartition

from g3stream.contract.topics import frames_topic
from g3stream.kafka.errors import NO_SUCH_TOPIC
from g3stream.kafka.offsets import offset_range, restart_at

_REPORT_AFTER_SECONDS = 5.0
_REQUEST_SECONDS = 2.0


class AssignedPartitions:
    """The assigned partitions of a consumer; for the thread that polls it."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._seek_errors: dict[str, tuple[float, str]] = {}
        self._out_of_range: set[str] = set()

    def pause(self, stream: str) -> None:
        """Stop the delivery of a stream until `resume`."""
        self._consumer.pause([_partition(stream)])

    def resume(self, stream: str, offset: int) -> bool:
        """Deliver a stream again, from that offset on; returns whether that succeeded.

        It fails for some ms after the assignment, while librdkafka hasn't begun to fetch.
        """
        self._consumer.resume([_partition(stream)])
        # Also where it would continue by itself: the fetching thread notices a seek at once, but a resume only after
        # up to a second.
        if self.seek(stream, offset):
            return True
        self.pause(stream)
        return False

    def seek(self, stream: str, offset: int) -> bool:
        """Deliver a stream from that offset on; returns whether that succeeded.

        The offset must be a number: librdkafka looks OFFSET_BEGINNING up, and retries that after 0.5 s; a late retry,
        as with a broker some ms away, moves a partition that is being read (2.16).
        """
        try:
            self._consumer.seek(_partition(stream, offset))
        except KafkaException as error:
            since, _ = self._seek_errors.get(stream, (time.monotonic(), ""))
            self._seek_errors[stream] = since, error.args[0].str()
            return False
        self._seek_errors.pop(stream, None)
        return True

    def reset_later(self, stream: str) -> None:
        """Let `reset` move a stream to its earliest record: librdkafka has reported its offset as out of range."""
        self._out_of_range.add(stream)

    def reset(self, on_error: Callable[[KafkaError], None]) -> Iterator[tuple[str, int]]:
        """Move the streams for which that is possible now; yields each with the offset of its earliest record.

        The others are tried at the next call, so that no stream waits for them: of a topic that has been deleted
        meanwhile Kafka will never report an offset.
        on_error: called with Kafka's error if the earliest offset can't be queried, unless the topic is gone.
        """
        for stream in sorted(self._out_of_range):
            try:
                earliest, _ = offset_range(self._consumer, frames_topic(stream), seconds=_REQUEST_SECONDS)
                restart_at(self._consumer, frames_topic(stream), earliest)
            except KafkaException as error:
                if error.args[0].code() in NO_SUCH_TOPIC:
                    continue  # the group is about to revoke it
                on_error(error.args[0])
                return
            self._out_of_range.remove(stream)
            yield stream, earliest

    def discard(self, streams: Iterable[str]) -> None:
        """Forget streams that are no longer assigned to us."""
        for stream in streams:
            self._seek_errors.pop(stream, None)
            self._out_of_range.discard(stream)

    def resume_error(self, stream: str) -> str | None:
        """Why a stream can't be resumed, if that has failed for long. For any thread."""
        since, why = self._seek_errors.get(stream, (0.0, ""))
        return why if why and time.monotonic() - since > _REPORT_AFTER_SECONDS else None


def _partition(stream: str, offset: int = OFFSET_INVALID) -> TopicPartition:
    return TopicPartition(frames_topic(stream), 0, offset)
