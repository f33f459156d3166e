"""Looks at one stream after the other, in a thread, for a modest share of the time."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import KafkaException

from archiver.kafka.topic_reader import SingleConsumerReader
from archiver.kafka.topic_tail import PARTITION_BYTES
from archiver.quicklook.decoder_process import DecoderError, DecoderProcess, DecoderStartError
from archiver.quicklook.latest_frames import LatestFrames, is_gone, latest_frames, streams_with_topic
from archiver.quicklook.look import AnswerError, look_from
from archiver.quicklook.state import State, StreamState, next_stream, pause_s, retry_s
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

SHARE: Final = 0.2
"""Of the time, how much is spent on looks at most, by one CPU: 2,000 channels take 1 s each time."""
_STREAMS_EVERY_S: Final = 30.0
"""How often new streams are looked for."""
_RETRY_S: Final = 2.0


class Looker:
    """Looks at streams until it is closed.

    config: librdkafka's settings. streams: all if none is named. describe: returns why Kafka can't be read.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        streams: Sequence[str],
        decoder: DecoderProcess,
        describe: Callable[[KafkaException], str],
        *,
        seconds: float,
        every_s: float,
        max_bytes: int,
    ) -> None:
        self._config = config
        self._group = group
        self._wanted = streams
        self._decoder = decoder
        self._describe = describe
        self._max_bytes = max_bytes
        self._throttle = LogThrottle()
        self._stopping = threading.Event()
        self._streams: list[str] = []
        self._listed_s = float("-inf")
        self._due_s: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        """At how many looks in a row the decoder has died."""
        self._state = State(seconds, every_s, now_ms())
        self._thread = threading.Thread(target=self._run, name="looks", daemon=True)

    def state(self) -> State:
        """Return what is known. For any thread."""
        return replace(self._state, decoder=self._decoder.status)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End the thread and the decoder; wait no longer than that for what it does."""
        self._stopping.set()
        self._thread.join(timeout_s)
        self._decoder.close()

    def _run(self) -> None:
        with SingleConsumerReader(self._config, self._group, PARTITION_BYTES) as reader:
            while not self._stopping.is_set():
                try:
                    wait_s = self._next(reader)
                except KafkaException as error:
                    self._fail(printable(self._describe(error)))
                    wait_s = _RETRY_S
                except Exception as error:
                    log.exception("a look has failed; still trying")
                    self._fail(f"{type(error).__name__}: {error}")
                    wait_s = _RETRY_S
                self._stopping.wait(wait_s)

    def _fail(self, why: str) -> None:
        if self._throttle.due(time.monotonic()):
            log.warning("no stream can be looked at: %s; still trying", why)
        since_ms = self._state.kafka_since_ms or now_ms()
        self._state = replace(self._state, kafka_error=why, kafka_since_ms=since_ms)

    def _succeed(self) -> None:
        """Note that Kafka has answered."""
        if self._throttle.reset():
            log.info("Kafka answers again")
        self._state = replace(self._state, kafka_error=None, kafka_since_ms=None)

    def _next(self, reader: SingleConsumerReader) -> float:
        """Look at the stream that is due, if one is; return how long to wait then, in s. Raises KafkaException."""
        now_s = time.monotonic()
        if now_s - self._listed_s >= _STREAMS_EVERY_S or not self._streams:
            self._streams = streams_with_topic(reader, self._wanted)
            self._succeed()
            self._listed_s = now_s
            known = self._state.streams
            streams = {it: known.get(it, StreamState()) for it in self._streams}
            self._state = replace(self._state, streams=streams, is_listed=True)
            for it in known.keys() - self._state.streams.keys():
                self._due_s.pop(it, None)
                self._deaths.pop(it, None)
        if pause := self._decoder.pause_s():
            return pause
        stream = next_stream(self._due_s, self._streams)
        if stream is None:
            return _RETRY_S
        wait_s = self._due_s.get(stream, now_s) - now_s
        if wait_s > 0:
            return min(wait_s, _STREAMS_EVERY_S)
        self._due_s[stream] = now_s + self._state.every_s
        try:
            found = self._look(reader, stream)
        except KafkaException as error:
            self._due_s[stream] = now_s
            if not is_gone(error):
                raise
            self._listed_s = float("-inf")
            return 0.0
        self._succeed()
        self._state = replace(self._state, streams={**self._state.streams, stream: found})
        return pause_s(time.monotonic() - now_s, SHARE)

    def _look(self, reader: SingleConsumerReader, stream: str) -> StreamState:
        """Look at a stream; return its state. Raises KafkaException."""
        before, settings = self._state.streams[stream], self._state
        looked_ms = now_ms()
        known_end = None if before.error else before.end_offset
        found = latest_frames(reader, stream, settings.seconds, self._max_bytes, known_end)
        if found is None:
            return replace(before, looked_ms=looked_ms)
        state = replace(before, looked_ms=looked_ms, end_offset=found.end_offset)
        if not found.frames:
            return replace(state, error=None, error_since_ms=None)
        try:
            return self._decoded(stream, state, found)
        except AnswerError as error:
            why = str(error)
        except DecoderStartError as error:  # which isn't this stream's doing
            why = str(error)
        except DecoderError as error:
            why = str(error)
            self._deaths[stream] = self._deaths.get(stream, 0) + 1
            self._due_s[stream] = time.monotonic() + retry_s(settings.every_s, self._deaths[stream])
        return replace(state, error=printable(why), error_since_ms=before.error_since_ms or looked_ms)

    def _decoded(self, stream: str, state: StreamState, found: LatestFrames) -> StreamState:
        """Return the state with a look at these frames. Raises DecoderError, AnswerError."""
        fields, parts = self._decoder.ask({"seconds": self._state.seconds}, found.frames)
        self._deaths.pop(stream, None)
        if why := fields.get("error"):
            raise AnswerError(str(why))
        look = look_from(fields, parts, found.left_out)
        return replace(state, look=look, received_ms=found.time_ms, error=None, error_since_ms=None)
