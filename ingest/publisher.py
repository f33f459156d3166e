"""From the spool to the stream's topics: in order, each record until Kafka has acknowledged it."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from ingest.bundle import Bundle
from ingest.latency import Latency
from ingest.outage import SILENT_BROKER_CONFIG, Outage
from ingest.spool import Spool
from ingest.topic import (
    CHUNK_BYTES,
    FRAMES_TOPIC_CONFIG,
    REJECTED_TOPIC_CONFIG,
    frames_topic,
    rejected_topic,
)

log = logging.getLogger(__name__)

IN_FLIGHT_BYTES = 32 << 20
"""How much may wait in librdkafka for its acknowledgement; the rest waits in the spool, on disk."""

_REMOVE_BYTES = 8 << 20
_REMOVE_SECONDS = 0.5
"""What is acknowledged leaves the spool so late, or when that many bytes are: each time costs a write."""
_LOOK_SECONDS = 0.1
"""How soon acknowledgements are seen, and with them room in the spool, while nothing else is to be done."""
_IDLE_SECONDS = 1.0
_COMPLAIN_SECONDS = 5.0
_HEADROOM_BYTES = 4096  # a record's headers and Kafka's own fields, at most
_OVERHEAD_BYTES = 1400  # what a record takes in this process besides its value, until it is acknowledged (measured)
_ASK_SECONDS = 2.0
_NO_ANSWER = KafkaError(KafkaError._TIMED_OUT, "no answer")

PRODUCER_CONFIG: Mapping[str, str | int | bool] = {
    "enable.idempotence": True,
    "acks": "all",
    "enable.gapless.guarantee": True,  # what follows a failed record must not overtake it
    "message.timeout.ms": 0,  # never give a record up
    "message.max.bytes": 1_048_588,  # a broker's default
    "queue.buffering.max.kbytes": 2 * IN_FLIGHT_BYTES // 1024,
    "queue.buffering.max.messages": 1_000_000,  # IN_FLIGHT_BYTES is the limit
    "linger.ms": 0,  # what comes while a request is on its way goes together with the next, without waiting for more
    "reconnect.backoff.max.ms": 1_000,  # how soon a broker that is back is found
    **SILENT_BROKER_CONFIG,
    "topic.metadata.refresh.interval.ms": 2_000,  # how soon another leader is known
    "allow.auto.create.topics": False,
}


@dataclass(slots=True)
class _Awaited:
    """A bundle of which Kafka has not acknowledged so many records yet. since: ms, when the first was received."""

    records: int
    since: int


class TopicRefused(Exception):
    """The topic exists, and isn't one that a stream can be published to; the message says why."""


class Publisher:
    """Publishes one stream's spool until stopped; `run` is its thread's work.

    config: librdkafka settings of the producer. replication_factor: for topics it creates, None for the broker's
    default. topic_config: further settings for those. in_flight_bytes: how much may wait in librdkafka for its
    acknowledgement. Raises nothing but TopicRefused out of `run`.

    `acknowledged` is the offset, in the stream's topic, of the last record that Kafka has acknowledged; `trouble` is
    why it takes none now, None if it does. `oldest`: ms, when the first record that waits for Kafka was received,
    None if none is known to; `latency`: of those that it acknowledged, from their receipt on.
    """

    def __init__(
        self,
        stream: str,
        spool: Spool,
        config: Mapping[str, Any],
        topic_config: Mapping[str, str],
        replication_factor: int | None,
        in_flight_bytes: int = IN_FLIGHT_BYTES,
    ) -> None:
        self._stream = stream
        self._spool = spool
        self._in_flight_limit = in_flight_bytes
        self._config = {**config, "error_cb": self._client_error}
        self._topics = {False: frames_topic(stream), True: rejected_topic(stream)}
        self._topic_configs = {
            False: {**FRAMES_TOPIC_CONFIG, **topic_config},
            # Made for the frames, a setting may make bad ones fill the broker: theirs stay bounded.
            True: {**topic_config, **REJECTED_TOPIC_CONFIG},
        }
        self._replication_factor = replication_factor
        self._servers = config["bootstrap.servers"]
        self.acknowledged: int | None = None
        self.trouble: str | None = None
        self.oldest: int | None = None
        self.latency = Latency()
        self._stopping = threading.Event()
        self._abandon = threading.Event()
        self._failed: KafkaError | None = None
        self._outage = Outage()
        self._complained = 0.0
        self._rejected_ready = False
        self._passed_over = False  # rejected frames, as there was no topic for them
        self._ask_again = 0.0
        self._awaited: dict[int, _Awaited] = {}  # by key, the oldest first
        self._acknowledged: list[int] = []
        self._acknowledged_bytes = 0
        self._removed = 0.0  # when
        self._in_flight = 0  # bytes
        self._answered = 0.0  # when Kafka last acknowledged something

    def run(self) -> None:
        """Publish until `stop`; then until the spool is empty, or `abandon`. Raises TopicRefused."""
        while not self._done():
            if self._topic_is_there(rejected=False):
                self._publish()
            elif self.oldest is None and (first := self._spool.read(-1, 1)):
                self.oldest = first[0].records[0].time

    def stop(self) -> None:
        """Nothing more will be spooled: publish what is there and return."""
        self._stopping.set()

    def abandon(self) -> None:
        """Return now; what Kafka has not acknowledged stays in the spool."""
        self._abandon.set()

    def _done(self) -> bool:
        return self._abandon.is_set() or (self._stopping.is_set() and not self._spool.bundles)

    def _publish(self) -> None:
        """With one producer, from the spool's first record on, until done or the producer has failed."""
        producer = Producer(self._config)
        self._failed = None
        self._passed_over = False
        self._in_flight = 0
        self._awaited = {}
        self._acknowledged = []
        self._acknowledged_bytes = 0
        self._answered = time.monotonic()
        after = -1
        try:
            with self._noting_fatal_errors():
                while not self._done() and not self._failed:
                    if self._passed_over and self._takes_rejected():
                        break  # and begin again with the spool's first
                    self._wait(producer, after)
                    if self._in_flight < self._in_flight_limit:
                        for bundle in self._spool.read(after, self._in_flight_limit // 4):
                            after = bundle.key
                            self._produce(producer, bundle)
                    self.oldest = next((waits.since for waits in self._awaited.values()), None)
                    self._forget_acknowledged()
                # What is in flight goes with the producer. To purge it would be a fatal error: it leaves a gap.
                producer.poll(0)
        finally:
            self._forget_acknowledged(everything=True)
        if self._failed:
            log.error(
                "%s: Kafka refused a record (%s); trying again from the spool", self._stream, self._failed.str()
            )
            self._abandon.wait(1)

    @contextmanager
    def _noting_fatal_errors(self) -> Iterator[None]:
        """confluent-kafka tells `error_cb` nothing of these: it raises them from whatever serves acknowledgements,
        and wrapped, if it has served another one since."""
        try:
            yield
        except (KafkaException, SystemError) as error:
            fatal = error if isinstance(error, KafkaException) else error.__cause__
            if not isinstance(fatal, KafkaException):
                raise
            self._failed = self._failed or fatal.args[0]

    def _wait(self, producer: Producer, after: int) -> None:
        """Serve acknowledgements, until there is room for more in flight and more to send, or a moment passed."""
        if self._in_flight >= self._in_flight_limit or self._spool.stopping:
            producer.poll(_LOOK_SECONDS)
        else:
            # Not for acknowledgements: nobody waits for one, and each wait for one costs more than it does.
            waiting = self._in_flight or self._acknowledged
            self._spool.wait_for_more(after, _LOOK_SECONDS if waiting else _IDLE_SECONDS)
        producer.poll(0)
        if self._in_flight and time.monotonic() - self._answered > _COMPLAIN_SECONDS:
            self._complain(f"Kafka at {self._servers} does not acknowledge ({self._outage.why(_NO_ANSWER)})")

    def _produce(self, producer: Producer, bundle: Bundle) -> None:
        if not self._in_flight:
            self._answered = time.monotonic()
        self._awaited[bundle.key] = _Awaited(len(bundle.records), bundle.records[0].time)
        for record in bundle.records:
            if record.rejected and not self._takes_rejected():
                self._passed_over = True
                continue  # so its bundle stays in the spool; the others' copies will be dropped as duplicates
            size = len(record.value) + _OVERHEAD_BYTES
            self._in_flight += size
            producer.produce(
                self._topics[record.rejected],
                record.value,
                partition=0,
                headers=record.headers,  # type: ignore[arg-type]  # str is one of str | bytes | None
                timestamp=record.time,
                on_delivery=partial(self._delivered, bundle.key, size, time.time() - record.time / 1000),
            )

    def _delivered(self, key: int, size: int, age: float, error: KafkaError | None, message: Message) -> None:
        """age: s, from its receipt until it was given to the producer."""
        self._in_flight -= size
        if error is None:
            self._answered = time.monotonic()
            self.trouble = None
            if message.topic() == self._topics[False]:
                self.acknowledged = message.offset()
            self._acknowledged_bytes += size
            self.latency.observe(age + (message.latency() or 0.0))
            waits = self._awaited[key]
            waits.records -= 1
            if not waits.records:
                del self._awaited[key]
                self._acknowledged.append(key)
        else:
            self._failed = self._failed or error

    def _forget_acknowledged(self, everything: bool = False) -> None:
        """Remove from the spool, many at a time."""
        now = time.monotonic()
        due = self._acknowledged_bytes >= _REMOVE_BYTES or now >= self._removed + _REMOVE_SECONDS
        if self._acknowledged and (everything or due or self._spool.stopping):
            self._removed = now
            self._spool.remove(self._acknowledged)
            self._acknowledged = []
            self._acknowledged_bytes = 0

    def _takes_rejected(self) -> bool:
        """Whether there is a topic for rejected frames. While not, they stay in the spool, and hold up no others."""
        now = time.monotonic()
        if not self._rejected_ready and now >= self._ask_again:
            self._rejected_ready = self._topic_is_there(rejected=True)
            self._ask_again = now + _COMPLAIN_SECONDS
        return self._rejected_ready

    def _topic_is_there(self, rejected: bool) -> bool:
        """Whether the topic exists, created if need be; False if Kafka can't be asked now. Raises TopicRefused."""
        name = self._topics[rejected]
        admin = AdminClient({key: value for key, value in self._config.items() if key not in PRODUCER_CONFIG})
        try:
            topic = admin.list_topics(name, timeout=_ASK_SECONDS).topics[name]
            if topic.error is not None and topic.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise KafkaException(topic.error)
            if topic.error is not None:
                self._create(admin, name, self._topic_configs[rejected])
            else:
                _check(admin, name, len(topic.partitions))
        except KafkaException as error:
            reason = error.args[0]
            if not rejected and reason.code() in (KafkaError.INVALID_CONFIG, KafkaError.POLICY_VIOLATION):
                raise TopicRefused(f"Kafka won't create the topic {name}: {reason.str()}") from None
            admin.poll(0)  # what `_client_error` is to hear waits for this
            self._complain(f"Kafka at {self._servers} can't be used yet ({self._outage.why(reason)})", again=name)
            if not rejected:
                self._abandon.wait(0.5)
            return False
        except TopicRefused as refused:
            if not rejected:
                raise
            # What one flipped bit on the wire calls for must not end a stream.
            self._complain(f"rejected frames can't be published: {refused}")
            return False
        if not rejected:
            self.trouble = None
        return True

    def _create(self, admin: AdminClient, name: str, config: Mapping[str, str]) -> None:
        new = NewTopic(
            name,
            num_partitions=1,
            replication_factor=self._replication_factor or -1,
            config=dict(config),
        )
        try:
            admin.create_topics([new], request_timeout=10)[name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        log.info("%s: created the topic %s", self._stream, name)

    def _client_error(self, error: KafkaError) -> None:
        self._outage.heard(error)
        if error.fatal():
            self._failed = self._failed or error

    def _complain(self, what: str, again: str = "") -> None:
        self.trouble = what
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


def _check(admin: AdminClient, name: str, partitions: int) -> None:
    """Raises TopicRefused unless the existing topic keeps a stream's order and takes its records."""
    if partitions != 1:
        raise TopicRefused(
            f"the topic {name} has {partitions} partitions; a stream needs exactly one, for its order: "
            f"delete the topic, or choose another --stream"
        )
    resource = ConfigResource(ResourceType.TOPIC, name)
    largest = int(admin.describe_configs([resource])[resource].result()["max.message.bytes"].value)
    if largest < CHUNK_BYTES + _HEADROOM_BYTES:
        raise TopicRefused(
            f"the topic {name} takes messages of {largest} bytes at most; set its max.message.bytes to 1048588"
        )
