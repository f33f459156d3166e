"""Topic administration: find topics, create missing ones, compare them with what they should be, and watch that."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
    TopicMetadata,
)

from g3stream.contract.topic_settings import Difference, ExpectedTopic, FoundTopic, Role, Severity, differences
from g3stream.kafka.errors import NO_ANSWER_ERRORS, NO_SUCH_TOPIC, Operation, topic_right, with_right

log = logging.getLogger(__name__)

_METADATA_TIMEOUT_SECONDS = 2.0
_CREATE_TIMEOUT_SECONDS = 10.0
_TOPICS_PER_REQUEST = 20
"""Topics whose settings are requested at once: they take 4 ms of the interpreter's time (measured)."""
_REQUEST_TIMEOUT_SECONDS = 4.0
_CHECK_SECONDS = 15.0
_RECHECK_SECONDS = 3.0
"""The interval while a topic differs in a way that an operator may be fixing."""
_LEVELS = {Severity.REFUSE: logging.ERROR, Severity.AT_RISK: logging.ERROR, Severity.REPORT: logging.WARNING}


class TopicAdmin:
    """The topics of one cluster. config: librdkafka settings of any client.

    Each call waits for Kafka, for seconds at most if it doesn't answer. All methods raise KafkaException.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._servers = str(config["bootstrap.servers"])
        # A request of a topic's metadata by its name would create it, with the broker's defaults.
        self.client = AdminClient({**config, "allow.auto.create.topics": False})
        """The admin client, for other requests."""

    def ensure(self, expected: ExpectedTopic) -> tuple[bool, Sequence[Difference]]:
        """Create the topic if it is missing; return whether it was, and how it differs from what it should be."""
        with self._reporting_cause():
            name, created = expected.name, False
            found = self.check([expected])
            if found.get(name, ()) is None:
                created = self.create(name, expected.config, expected.replication_factor)
            if found.get(name) is None:  # it exists now, though not all brokers may know it yet
                found = self.check([expected])
            return created, found.get(name) or ()

    def check(self, expected: Sequence[ExpectedTopic]) -> Mapping[str, Sequence[Difference] | None]:
        """Return how each topic differs from what it should be; None for one that doesn't exist.

        Topics that Kafka can't describe now are left out; but if only one is requested, its error is raised.
        """
        names = [topic.name for topic in expected]
        cluster = self.client.list_topics(*(names if len(names) == 1 else ()), timeout=_METADATA_TIMEOUT_SECONDS)
        existing: list[tuple[ExpectedTopic, TopicMetadata]] = []
        compared: dict[str, Sequence[Difference] | None] = {}
        for topic in expected:
            found = cluster.topics.get(topic.name)
            if found is None or (found.error is not None and found.error.code() in NO_SUCH_TOPIC):
                compared[topic.name] = None
            elif found.error is None:
                existing.append((topic, found))
            elif len(names) == 1:
                raise KafkaException(with_right(found.error, topic_right(Operation.WRITE, topic.name)))
        for first in range(0, len(existing), _TOPICS_PER_REQUEST):
            some = existing[first : first + _TOPICS_PER_REQUEST]
            configs = self._configs([topic.name for topic, _ in some])
            for topic, found in some:
                if topic.name in configs:
                    replicas = {number: tuple(partition.replicas) for number, partition in found.partitions.items()}
                    elsewhere = self._other_partitions(topic.name, replicas) if topic.role is Role.FRAMES else {}
                    brokers = tuple(sorted(cluster.brokers))
                    state = FoundTopic(replicas, brokers, configs[topic.name], elsewhere)
                    compared[topic.name] = differences(topic, state, self._servers)
        return compared

    def create(self, name: str, config: Mapping[str, str], replication_factor: int | None) -> bool:
        """Create a topic; return False if another client has created it meanwhile."""
        new = NewTopic(name, 1, replication_factor or -1, config=dict(config))
        try:
            self.client.create_topics([new], request_timeout=_CREATE_TIMEOUT_SECONDS)[name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaException(with_right(error.args[0], topic_right(Operation.CREATE, name))) from None
            return False
        return True

    def offset_ranges(
        self, partitions: Sequence[TopicPartition], seconds: float = _REQUEST_TIMEOUT_SECONDS
    ) -> Mapping[TopicPartition, tuple[int, int]]:
        """Return each partition's first offset, and the one after its last, by two requests for all."""
        if not partitions:
            return {}
        # librdkafka's client would use the leader epochs that it learned first, and be refused once a leader changes.
        self.client.list_topics(timeout=seconds)
        firsts, ends = (
            self.client.list_offsets({partition: spec for partition in partitions}, request_timeout=seconds)
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]  # it has no types
        )
        with self._reporting_cause():
            return {p: (firsts[p].result().offset, ends[p].result().offset) for p in partitions}

    def records_in(self, topic: str, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        """Return the offset ranges of those partitions that have records."""
        spans = self.offset_ranges([TopicPartition(topic, number) for number in partitions])
        return {partition.partition: span for partition, span in spans.items() if span[0] < span[1]}

    @contextmanager
    def _reporting_cause(self) -> Iterator[None]:
        try:
            yield
        except KafkaException:
            self.client.poll(0)  # calls `error_cb` with the cause
            raise

    def _configs(self, names: Sequence[str]) -> Mapping[str, Mapping[str, str] | None]:
        """Return all settings of each topic; None if ACLs forbid reading them. Deleted topics are left out."""
        topics = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        configs: dict[str, Mapping[str, str] | None] = {}
        answers = self.client.describe_configs(topics, request_timeout=_REQUEST_TIMEOUT_SECONDS)
        for topic, answer in answers.items():
            try:
                configs[topic.name] = {name: entry.value or "" for name, entry in answer.result().items()}
            except KafkaException as error:
                code = error.args[0].code()
                if code in NO_ANSWER_ERRORS:
                    raise
                if code not in NO_SUCH_TOPIC:  # not authorized; recording doesn't need it
                    configs[topic.name] = None
        return configs

    def _other_partitions(self, name: str, partitions: Iterable[int]) -> Mapping[int, tuple[int, int]]:
        """Return the partitions other than 0 that have records: first offset, and the one after the last."""
        try:
            return self.records_in(name, [number for number in partitions if number != 0])
        except KafkaException:  # not authorized, or one of them has no leader now
            return {}


class TopicWatch:
    """A context manager with a thread that checks the added topics, and logs each change. For any thread.

    Best effort: nothing waits for a check, and if Kafka doesn't answer or authorize it, the last known state stays.
    config: librdkafka settings of any client. needs_check: returns whether to check all topics again soon. A deleted
    topic of role FILES is created again here; a stream's topics, by ingest when it publishes to them.
    """

    def __init__(self, config: Mapping[str, Any], needs_check: Callable[[], bool] = lambda: False) -> None:
        self._config = config
        self._needs_check = needs_check
        self._lock = threading.Lock()
        self._expected: dict[str, ExpectedTopic] = {}
        self._found: dict[str, tuple[Difference, ...]] = {}
        self._has_unchecked = False  # whether a topic has never been checked
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topic watch", daemon=True)

    def ensure(self, admin: TopicAdmin, expected: ExpectedTopic) -> bool:
        """Create the topic if it is missing, check it, and watch it from now on; return whether it was created.

        Raises KafkaException.
        """
        created, found = admin.ensure(expected)
        self.update(expected, found)
        return created

    def update(self, expected: ExpectedTopic, found: Sequence[Difference]) -> None:
        """Watch this topic from now on. found: its differences just now."""
        with self._lock:
            self._expected[expected.name] = expected
        self._report(expected.name, found)

    def add(self, expected: ExpectedTopic) -> None:
        """Watch this topic from now on; its differences aren't known yet."""
        with self._lock:
            self._expected[expected.name] = expected
            self._has_unchecked = True

    def remove(self, name: str) -> None:
        """Stop watching this topic."""
        with self._lock:
            self._expected.pop(name, None)
            self._found.pop(name, None)

    def of(self, name: str) -> tuple[Difference, ...]:
        """Return the known differences of a topic."""
        return self._found.get(name, ())

    def all(self) -> tuple[Difference, ...]:
        """Return the known differences of all topics."""
        with self._lock:
            return tuple(difference for name in sorted(self._found) for difference in self._found[name])

    def start(self) -> None:
        """Start the checks."""
        self._thread.start()

    def close(self) -> None:
        """Stop the checks, without waiting for one that is in progress."""
        self._closed.set()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        admin = TopicAdmin(self._config)
        waited = 0.0
        while not self._closed.wait(_RECHECK_SECONDS):
            waited += _RECHECK_SECONDS
            if waited >= _CHECK_SECONDS or self._needs_recheck:
                waited = 0.0
                self._check(admin)

    @property
    def _needs_recheck(self) -> bool:
        """Whether an operator may be fixing a topic, or one was never checked."""
        return (
            self._has_unchecked
            or self._needs_check()
            or any(difference.severity is not Severity.REPORT for difference in self.all())
        )

    def _check(self, admin: TopicAdmin) -> None:
        with self._lock:
            expected, self._has_unchecked = dict(self._expected), False
        try:
            for name, found in admin.check([*expected.values()]).items() if expected else ():
                if found is not None:
                    self._report(name, found)
                elif expected[name].role is Role.FILES and self.ensure(admin, expected[name]):
                    text = "the topic %s was deleted, with all events in it; created it again, for later events"
                    log.error(text, name)
        except KafkaException as error:
            log.debug("the topics can't be checked now: %s", error.args[0].str())
        except Exception:  # no error may end the checks silently; recording continues without them
            log.exception("the topics can't be checked now; recording continues, still trying")

    def _report(self, name: str, found: Sequence[Difference]) -> None:
        with self._lock:
            if name not in self._expected:
                return
            before, self._found[name] = self._found.get(name, ()), tuple(found)
        known = {difference.key for difference in before}
        for difference in found:
            if difference.key not in known:
                log.log(_LEVELS[difference.severity], "%s", difference)
        if before and not found:
            log.info("the topic %s is as it should be again", name)
