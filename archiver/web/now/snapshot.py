"""What the page knows of the present, collected in a thread of its own every few seconds.

A broker that doesn't answer holds up only this thread. The page then shows the last snapshot, and since when it is
old.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from confluent_kafka import KafkaException

from archiver.status.collect import EvidenceCollector
from archiver.status.evidence import Evidence
from archiver.status.verdict import Verdict, judge
from archiver.web.now.rates import Rate, RateHistory
from g3stream.contract.program_status import IngestStatus
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable
from g3stream.log.throttle import LogThrottle

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
"""Between the beginnings of two collections."""
_SHARE = 0.1
"""Of the time, how much is collected at most: Kafka is there for recording, and a collection reads a few records of
each stream."""
_LONGEST_PAUSE_S = 8.0
STALE_MS = 15_000
"""A snapshot that is older isn't live: a collection takes a second at most, unless a broker doesn't answer."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was last known of the archive, and when. Times are in ms since the epoch."""

    group: str
    started_ms: int
    """When the page's process began to ask."""
    verdict: Verdict | None = None
    """None until Kafka has answered for the first time."""
    collected_ms: int | None = None
    """When `verdict` was collected."""
    rates: Mapping[str, Sequence[Rate]] = field(default_factory=dict)
    error: str | None = None
    """Why the last collection has failed; None if it hasn't."""

    def is_live(self, now_ms: int) -> bool:
        """Return whether this is the present state. now_ms: since the epoch."""
        return self.error is None and self.collected_ms is not None and now_ms - self.collected_ms <= STALE_MS


class SnapshotCollector:
    """Collects snapshots in a thread until it is closed.

    config: librdkafka's settings. streams: all if none is named. describe: returns why Kafka can't be read.
    on_collected: called in that thread after each collection.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        streams: Sequence[str],
        describe: Callable[[KafkaException], str],
        on_collected: Callable[[], None],
    ) -> None:
        self._config = config
        self._group = group
        self._streams = streams
        self._describe = describe
        self._on_collected = on_collected
        self._rates = RateHistory()
        self._throttle = LogThrottle()
        self._stopping = threading.Event()
        self.latest = Snapshot(group, now_ms())
        """The last snapshot. For any thread."""
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Start to collect."""
        self._thread.start()

    def close(self) -> None:
        """Make the thread end, without waiting for it: it may wait for a broker."""
        self._stopping.set()

    def _run(self) -> None:
        with EvidenceCollector(self._config, self._group, self._streams) as collector:
            self._collect_until_stopped(collector)

    def _collect_until_stopped(self, collector: EvidenceCollector) -> None:
        while not self._stopping.is_set():
            began_s = time.monotonic()
            try:
                self.latest = self._next_snapshot(collector.collect(), now_ms())
                if self._throttle.reset():
                    log.info("Kafka answers again: the page is live")
            except KafkaException as error:
                why = printable(self._describe(error))
                if self._throttle.due(time.monotonic()):
                    log.warning("the page isn't live: %s; still trying", why)
                self.latest = replace(self.latest, error=why)
            except Exception as error:
                log.exception("the page isn't live; still trying")
                self.latest = replace(self.latest, error=f"{type(error).__name__}: {error}")
            self._on_collected()
            took_s = time.monotonic() - began_s
            pause_s = 0.1 if self.latest.error else min(took_s / _SHARE, _LONGEST_PAUSE_S)
            self._stopping.wait(max(INTERVAL_S - took_s, pause_s))

    def _next_snapshot(self, evidence: Evidence, now: int) -> Snapshot:
        # At first, these are the history from before this process: the sparklines survive its restart.
        self._rates.add((it for it in evidence.new_reports if isinstance(it, IngestStatus)), now)
        return replace(
            self.latest,
            verdict=judge(evidence, now),
            collected_ms=now,
            rates=self._rates.by_stream(),
            error=None,
        )
