"""From the spool to the stream's topics: in order, each record until Kafka has acknowledged it."""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from g3stream.contract.topic_settings import Difference, times_replaced
from g3stream.host.activity import Activity
from g3stream.kafka.availability import Outage
from g3stream.kafka.throttling import Throttling
from g3stream.kafka.topic_watch import TopicWatch
from g3stream.service.histogram import Latency
from ingest.publish.in_flight import Flight, of_any_client
from ingest.publish.refusal import Refusal
from ingest.publish.stream_topics import StreamTopics, TopicRefused
from ingest.spool.batch import Bundle
from ingest.spool.spool import Spool

log = logging.getLogger(__name__)

IN_FLIGHT_BYTES = 4 << 20
"""How much may be on its way to Kafka; the rest waits in the spool, on disk. That is a batch, and the next ones while
it is acknowledged; of more, the bytes have left the processor's cache when they are sent."""

_REMOVE_BYTES = 8 << 20
_REMOVE_SECONDS = 0.5
"""What is acknowledged leaves the spool so late, or when that many bytes are: each time costs a write."""
_LOOK_SECONDS = 0.1
"""How soon acknowledgements are seen, and with them room in the spool, while nothing else is to be done."""
_IDLE_SECONDS = 1.0
_COMPLAIN_SECONDS = 5.0
_REFUSED_SECONDS = 2.0
"""Between two tries while Kafka refuses records, or the topic can't take them."""
_REJECTED_SECONDS = 60.0
"""At most, between two tries to publish rejected frames: at each, frames are sent again that Kafka has."""
_NO_ANSWER = KafkaError(KafkaError._TIMED_OUT, "no answer")


class Publisher:
    """Publishes one stream's spool until stopped; `run` is its thread's work.

    config: librdkafka settings of the producer. replication_factor: for topics it creates, None for the broker's
    default. topic_config: further settings for those. watch: checks the topics while they are used. in_flight_bytes:
    how much may be on its way to Kafka. Raises nothing but TopicRefused out of `run`: only if this is the stream's
    first start, so nothing has been published and nothing waits. Later it waits, and says so, until the topic is
    mended.

    `acknowledged` is the offset, in the stream's topic, of the last record that Kafka has acknowledged. `oldest`: ms,
    when the first record that waits for Kafka was received, None if none is known to; `latency`: of those that it
    acknowledged, from their receipt on.
    """

    def __init__(
        self,
        stream: str,
        spool: Spool,
        config: Mapping[str, Any],
        topic_config: Mapping[str, str],
        replication_factor: int | None,
        watch: TopicWatch,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
    ) -> None:
        self._stream = stream
        self._spool = spool
        self._in_flight_limit = in_flight_bytes
        self._throttling = Throttling("producer_byte_rate", config)
        self._config = {**config, "error_cb": self._client_error, "throttle_cb": self._throttling.heard}
        client = of_any_client(self._config)
        self._topics = StreamTopics(stream, client, topic_config, replication_factor, watch)
        self._is_first_start = spool.prev is None and not spool.bundles
        self._servers = config["bootstrap.servers"]
        self.acknowledged: int | None = None
        self._outage_now: str | None = None
        self._times_replaced = False
        self._refusals: dict[bool, Refusal] = {}  # of frames, and of rejected ones, as long as it is so
        self._unfit: dict[bool, str] = {}  # why their topics can't be used, as long as they are asked for
        self.oldest: int | None = None
        self.latency = Latency()
        self.activity = Activity()
        self._stopping = threading.Event()
        self._abandon = threading.Event()
        self._left = threading.Event()  # something for `run` to do
        self._idle = False  # whether `run` waits long, as it expects no acknowledgement
        self._turn = threading.Lock()  # of whoever uses what follows
        self._flight: Flight | None = None
        self._after = -1  # the key of the last bundle given to it
        self._removed = 0.0  # when
        self._rejected_ready = False
        self._passed_over = False  # rejected frames, as there was no topic for them
        self._ask_again, self._ask_pause = 0.0, _COMPLAIN_SECONDS
        self._outage = Outage()
        self._complained = 0.0

    @property
    def trouble(self) -> str | None:
        """Why Kafka takes no records now, or no rejected frames; None if it does. For any thread."""
        replaced = times_replaced(self._topics.names[False]) if self._times_replaced else None
        return self._refused(rejected=False) or self._outage_now or replaced or self._refused(rejected=True)

    @property
    def topics(self) -> tuple[Difference, ...]:
        """How its topics differ from what they are to be, as far as is known. For any thread."""
        return self._topics.differences

    def run(self) -> None:
        """Publish until `stop`; then until the spool is empty, or `abandon`. Raises TopicRefused."""
        try:
            while not self._done():
                if self._topic_is_there(rejected=False):
                    self._is_first_start = False
                    self._publish()
                elif self.oldest is None and (first := self._spool.read(-1, 1)):
                    self.oldest = first[0].records[0].time
        finally:
            self._topics.close()

    def hurry(self) -> None:
        """Publish what was just spooled, in the thread that spooled it: waking another costs more than doing it.

        Waits for nothing: what Kafka can't be given at once is left for `run`.
        """
        if not self._turn.acquire(blocking=False):
            self._left.set()
            return
        try:
            given = self._flight is not None and self._give(self._flight, from_disk=False)
            if self._idle or not given:
                self._left.set()
        finally:
            self._turn.release()

    @property
    def throttling(self) -> Throttling:
        """What Kafka's quotas do to it. For any thread."""
        return self._throttling

    def stop(self) -> None:
        """Nothing more will be spooled: publish what is there and return."""
        self._stopping.set()
        self._left.set()

    def abandon(self) -> None:
        """Return now; what Kafka has not acknowledged stays in the spool."""
        self._abandon.set()
        self._left.set()

    def _done(self) -> bool:
        return self._abandon.is_set() or (self._stopping.is_set() and not self._spool.bundles)

    def _publish(self) -> None:
        """With one producer, from the spool's first record on, until done or the producer has failed."""
        flight = Flight(self._config, self._topics.names, self.latency)
        with self._turn:
            self._after, self._passed_over = -1, False
            self._flight = flight
        try:
            while not self._done() and not flight.failed:
                if self._topics.unfit(rejected=False):
                    break  # and ask again whether that is so
                if self._passed_over and self._takes_rejected():
                    break  # and begin again with the spool's first
                if self._sees_times_replaced(flight):
                    break  # and ask why, sooner than the watch does
                self._left.clear()
                with self._turn:
                    given = self._give(flight, from_disk=True)
                    if not given or self._spool.stopping:
                        flight.serve(_LOOK_SECONDS)
                if given and not self._spool.stopping:
                    # Not for acknowledgements: nobody waits for one, and each wait for one costs more than it does.
                    self._idle = True  # before looking, so that what comes meanwhile ends the wait
                    self._idle = not self._spool.bundles
                    self._left.wait(_IDLE_SECONDS if self._idle else _LOOK_SECONDS)
                    self._idle = False
                self._see_whether_it_answers(flight)
        finally:
            with self._turn:
                self._flight = None
                flight.serve(0)
                self._forget(flight)
                flight.close()
        if flight.failed:
            self._note_refusal(Refusal.of(flight.failed, flight.failed_topic))

    def _sees_times_replaced(self, flight: Flight) -> bool:
        """Whether Kafka has begun to replace the times of receipt. Where its settings can be seen, nothing more is
        published then until that is mended; where ACLs hide them it is said, and goes on: that it is mended shows in
        a record that is published, and nowhere else."""
        replaced, before = flight.times_replaced, self._times_replaced
        if replaced is None or replaced == before:
            return False
        self._times_replaced = replaced
        if replaced:
            log.error("%s: %s", self._stream, times_replaced(self._topics.names[False]))
        return replaced

    def _note_refusal(self, refusal: Refusal) -> None:
        """Kafka takes a record no more, which stays in the spool: say so, and wait a while. Rejected frames wait for
        themselves, the others go on."""
        rejected = refusal.topic == self._topics.names[True]
        self._refusals[rejected] = refusal
        if rejected:
            self._rejected_ready = False
            self._ask_again = time.monotonic() + self._ask_pause
            self._ask_pause = min(2 * self._ask_pause, _REJECTED_SECONDS)
            with suppress(KafkaException):  # it is only to know why
                self._topics.ensure(rejected=True)
            self._say(str(self._refused(rejected=True)), again=self._topics.names[True])
        elif self._topic_is_there(rejected=False):
            self._say(str(self._refused(rejected=False)))
            self._abandon.wait(_REFUSED_SECONDS)

    def _refused(self, *, rejected: bool) -> str | None:
        """Why one of the topics takes no records, in words; None if it does."""
        which = "rejected frames" if rejected else "records"
        if unfit := self._unfit.get(rejected):
            return f"{which} can't be published: {unfit}"
        if refusal := self._refusals.get(rejected):
            topic = refusal.topic or self._topics.names[rejected]
            why = refusal.explained(topic, self._topics.found(rejected=rejected))
            return f"Kafka refuses {which} in {topic}: {why}"
        return None

    def _give(self, flight: Flight, *, from_disk: bool) -> bool:
        """Give the producer what is in the spool, as far as there is room; gives whether that was all of it.

        from_disk: else only what is still in memory. With the turn.
        """
        flight.serve(0)
        given = False
        while not given and not flight.failed and flight.bytes < self._in_flight_limit:
            with self.activity.of("a read of the spool"):
                bundles = self._spool.read(self._after, self._in_flight_limit // 4, from_disk=from_disk)
            for bundle in bundles:
                if not self._send(flight, bundle, may_ask=from_disk):
                    return False
            given = not bundles and not self._spool.has_more(self._after)
            if not bundles:
                break
        self._note(flight)
        return given

    def _send(self, flight: Flight, bundle: Bundle, *, may_ask: bool) -> bool:
        """Whether it was given to the producer: not if Kafka must be asked first, and mustn't be now."""
        rejected = any(record.rejected for record in bundle.records)
        if rejected and not (self._rejected_ready or may_ask):
            return False
        takes_rejected = not rejected or self._takes_rejected()
        self._passed_over = self._passed_over or not takes_rejected
        flight.send(bundle, takes_rejected)
        self._after = bundle.key
        return True

    def _note(self, flight: Flight) -> None:
        """What the producer has come to; what is acknowledged leaves the spool, many at a time."""
        self.oldest = flight.oldest
        offset = flight.offsets.get(False)
        if offset is not None and offset != self.acknowledged:
            self.acknowledged = offset
            self._outage_now = None
        for rejected in flight.offsets if self._refusals else ():
            self._refusals.pop(rejected, None)
            if rejected:
                self._ask_pause = _COMPLAIN_SECONDS
        due = time.monotonic() >= self._removed + _REMOVE_SECONDS or self._spool.stopping
        if flight.acknowledged_bytes >= _REMOVE_BYTES or (flight.acknowledged_bytes and due):
            self._forget(flight)

    def _forget(self, flight: Flight) -> None:
        self._removed = time.monotonic()
        if keys := flight.take_acknowledged():
            with self.activity.of("removing from the spool what Kafka has"):
                self._spool.remove(keys)

    def _see_whether_it_answers(self, flight: Flight) -> None:
        if flight.bytes and time.monotonic() - max(flight.answered, self._throttling.until) > _COMPLAIN_SECONDS:
            self._outage_now = f"Kafka at {self._servers} does not acknowledge ({self._outage.why(_NO_ANSWER)})"
            self._say(self._outage_now)

    def _takes_rejected(self) -> bool:
        """Whether there is a topic for rejected frames. While not, they stay in the spool, and hold up no others."""
        now = time.monotonic()
        if not self._rejected_ready and now >= self._ask_again:
            self._rejected_ready = self._topic_is_there(rejected=True)
            self._ask_again = max(self._ask_again, now + _COMPLAIN_SECONDS)
        return self._rejected_ready

    def _topic_is_there(self, rejected: bool) -> bool:
        """Whether the topic exists, created if need be, and takes records; False also if Kafka can't be asked now.
        Raises TopicRefused, if this is the first start."""
        topic = self._topics.names[rejected]
        try:
            self._topics.ensure(rejected=rejected)
        except KafkaException as error:
            self._outage_now = f"Kafka at {self._servers} can't be used yet ({self._outage.why(error.args[0])})"
            self._say(self._outage_now, again=topic)
            if not rejected:
                self._abandon.wait(0.5)
            return False
        if not rejected:
            self._outage_now = None
        if unfit := self._topics.unfit(rejected=rejected):
            if self._is_first_start and not rejected:
                raise TopicRefused(unfit)
            self._unfit[rejected] = unfit
            # What one flipped bit on the wire calls for must not hold up a stream.
            self._say(str(self._refused(rejected=rejected)), again=topic)
            if not rejected:
                self._abandon.wait(_REFUSED_SECONDS)
            return False
        if self._unfit.pop(rejected, None):
            log.info("%s: the topic %s can be published to again", self._stream, topic)
        return True

    def _client_error(self, error: KafkaError) -> None:
        self._outage.heard(error)
        if error.fatal() and self._flight:
            self._flight.failed = self._flight.failed or error

    def _say(self, what: str, again: str = "") -> None:
        now = time.monotonic()
        if now - self._complained < _COMPLAIN_SECONDS:
            return
        self._complained = now
        log.warning(  # not with the stream's name first: of many streams in a process that say so, most are folded
            "%s; %.1f MB wait in the spool; still trying for %s",
            what,
            self._spool.bytes / 1e6,
            again or self._stream,
            extra={"stream": self._stream},
        )
