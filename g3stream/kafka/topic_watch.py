"""Periodic checks of the topics in use, on a thread of its own, with a log line for each change.

Best effort: nothing waits for a check, and if Kafka doesn't answer or authorize it, the last known state stays.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from confluent_kafka import KafkaException

from g3stream.contract.topic_settings import Difference, ExpectedTopic, Role, Severity
from g3stream.kafka.topic_admin import TopicAdmin

log = logging.getLogger(__name__)

_CHECK_SECONDS = 15.0
_RECHECK_SECONDS = 3.0
"""The interval while a topic differs in a way that an operator may be fixing."""

_LEVELS = {Severity.REFUSE: logging.ERROR, Severity.AT_RISK: logging.ERROR, Severity.REPORT: logging.WARNING}


class TopicWatch:
    """A context manager with a thread that checks the added topics. For any thread.

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
                    log.error("the topic %s was deleted, with all events in it; created it again", name)
        except KafkaException as error:
            log.debug("the topics can't be checked now: %s", error.args[0].str())
        except Exception:  # no error may end the checks silently; recording continues without them
            log.exception("the topics can't be checked now")

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
