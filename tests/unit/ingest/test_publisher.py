"""A publisher's states while no broker answers, and the table of what may follow each."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.service.endpoint import ClientEndpoint
from ingest.config import StreamSettings
from ingest.publish.publisher import TRANSITIONS, Publisher, State
from ingest.receive.record_builder import PendingRecord
from ingest.spool.spool import Spool
from tests.support.processes import eventually

NOWHERE = "127.0.0.1:1"
SETTINGS = StreamSettings("s", ClientEndpoint("127.0.0.1", 1), 5, 1 << 20, {}, None, 1 << 20)


@contextmanager
def publishing(spool: Spool) -> Iterator[tuple[Publisher, threading.Thread]]:
    """A publisher in its thread, which must have ended with the block."""
    publisher = Publisher(SETTINGS, spool, {"bootstrap.servers": NOWHERE}, TopicWatch({}))
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    yield publisher, thread
    thread.join(20)
    assert not thread.is_alive()


def test_each_state_has_its_place_in_the_table_and_an_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert not TRANSITIONS[State.CLOSED]
    assert all(State.CLOSED in TRANSITIONS[state] for state in State if state is not State.CLOSED)


def test_without_kafka_it_reports_why_and_since_when_and_leaves_all_in_the_spool_when_it_is_cancelled(
    tmp_path: Path,
) -> None:
    with Spool(tmp_path, 1 << 20) as spool:
        spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, "0" * 16, 3), 7000, b"frame")])
        with publishing(spool) as (publisher, thread):
            reason = f"Kafka at {NOWHERE} can't be used yet"
            eventually(lambda: reason in (publisher.status().degraded_reason or ""), "the outage is reported")
            eventually(lambda: publisher.status().oldest_unacked_ms == 7000, "the oldest record is known")
            publisher.publish_inline()
            publisher.stop()
            assert thread.is_alive(), "a record waits"
            publisher.cancel()
        assert spool.ledger.waiting_batches == 1


def test_without_kafka_it_ends_at_once_when_it_is_stopped_and_nothing_waits(tmp_path: Path) -> None:
    with Spool(tmp_path, 1 << 20) as spool, publishing(spool) as (publisher, _):
        publisher.stop()
