"""Which archivers record the streams that were taken from this one: a line of the log, once they report it.

Best effort, on a thread that nothing waits for.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping

from confluent_kafka import KafkaException

from archiver.kafka.report_log import ReportLog
from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.program_status import ArchiverStatus, Report
from g3stream.contract.topics import STATUS_TOPIC
from g3stream.kafka.errors import is_refusal

log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 2.0
_ATTEMPTS = 30
"""A member may have to leave before another gets its streams: the session timeout, 10 s, a rebalance, a report."""


class NewOwners:
    """Finds and logs who has the streams that were taken from the member `instance_id`. reader: of its group."""

    def __init__(self, reader: TopicReader, instance_id: str) -> None:
        self._reader = reader
        self._instance_id = instance_id
        self._lock = threading.Lock()
        self._streams: set[str] = set()
        self._attempts_left = 0
        self._is_running = False
        self._closed = threading.Event()

    def find(self, streams: Iterable[str]) -> None:
        """Find who has these streams now."""
        with self._lock:
            self._streams.update(streams)
            self._attempts_left = _ATTEMPTS
            if self._streams and not self._is_running and not self._closed.is_set():
                self._is_running = True
                threading.Thread(target=self._run, name="new owners", daemon=True).start()

    def discard(self, streams: Iterable[str]) -> None:
        """These streams are this member's again."""
        with self._lock:
            self._streams.difference_update(streams)

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _run(self) -> None:
        reports, has_begun = ReportLog(self._reader), False
        is_refused = False
        while not self._closed.wait(_INTERVAL_SECONDS):
            new: list[Report] = []
            try:
                new = reports.read_new()
                if not has_begun:
                    new, has_begun = [], True  # reports from before say nothing
            except KafkaException as error:  # read again
                log.debug("%s can't be read now: %s", STATUS_TOPIC, error.args[0].str())
                is_refused = is_refusal(error.args[0])
            with self._lock:
                owners = owners_of(self._streams, self._of_group(new), self._instance_id)
                for owner, streams in owners.items():
                    log.info("%s: now recorded by %s", ", ".join(streams), owner)
                    self._streams.difference_update(streams)
                self._attempts_left -= 1
                if is_refused or not self._streams or self._attempts_left <= 0:
                    self._streams.clear()
                    self._is_running = False
                    return

    def _of_group(self, reports: Iterable[Report]) -> Iterator[ArchiverStatus]:
        return (it for it in reports if isinstance(it, ArchiverStatus) and it.group == self._reader.group)


def owners_of(streams: Iterable[str], reports: Iterable[ArchiverStatus], own: str) -> Mapping[str, list[str]]:
    """Return the archivers, other than `own`, that report these streams, with their streams, sorted."""
    names = frozenset(streams)
    found = {
        f"{it.instance} ({it.host})": sorted(names.intersection(it.streams)) for it in reports if it.instance != own
    }
    return {owner: assigned for owner, assigned in sorted(found.items()) if assigned}
