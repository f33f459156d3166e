"""Which of our streams are delivered: a stream is paused while its recording can take no more."""

import time
from collections.abc import Iterable

from confluent_kafka import Consumer, KafkaException, TopicPartition

from g3stream.contract.headers import frames_topic

_SAY_SECONDS = 5.0


class Reading:
    """For the thread that polls the consumer."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._refused: dict[str, tuple[float, str]] = {}

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
            since, _ = self._refused.get(stream, (time.monotonic(), ""))
            self._refused[stream] = since, error.args[0].str()
            return False
        self._refused.pop(stream, None)
        return True

    def let_go(self, streams: Iterable[str]) -> None:
        """These are assigned to us no longer."""
        for stream in streams:
            self._refused.pop(stream, None)

    def trouble(self, stream: str) -> str | None:
        """Why it can't be resumed, if that has been so for long. For any thread."""
        since, why = self._refused.get(stream, (0.0, ""))
        return why if why and time.monotonic() - since > _SAY_SECONDS else None
