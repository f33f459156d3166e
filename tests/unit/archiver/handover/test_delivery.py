"""One event at a time, again until the sink has taken it; what an aborted attempt comes to is ignored."""

import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from archiver.archive.location import Location
from archiver.core.events import Event, encode
from archiver.handover import follower
from archiver.handover.delivery import SinkDelivery
from archiver.handover.position import StartPosition
from archiver.handover.schedule import PendingEvents
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.contract.topics import FILES_TOPIC
from g3stream.service.supervisor import Backoff
from testbed.child_process import free_port
from tests.support.processes import SECONDS, eventually
from tests.unit.archiver.core.test_catalog import finished


class Acts:
    """A sink that does what a test says, and notes the attempts."""

    name = "acts"

    def __init__(self, act: Callable[[PendingEvent, threading.Event], None]) -> None:
        self.attempts: list[tuple[int, int]] = []
        self._act = act

    def wants(self, _: Event) -> bool:
        return True

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        self.attempts.append((pending.offset, pending.attempt))
        self._act(pending, abort)


def pending(offset: int) -> PendingEvent:
    return PendingEvent(finished(offset), encode(finished(offset)), offset, 1_000 + offset)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.handover.delivery.RETRIES", Backoff(min_s=0.0, max_s=0.0, stable_s=math.inf))


def test_an_event_that_fails_is_delivered_again_and_its_position_is_saved_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def act(event: PendingEvent, _: threading.Event) -> None:
        if event.attempt < 3:
            raise SinkError("not yet")

    sink, saved = Acts(act), list[int]()
    delivery = SinkDelivery(sink, lambda event: saved.append(event.offset), lambda: 7)
    delivery.begin(pending(5))
    delivery.begin(pending(6))  # not while another one is in progress
    assert delivery.wait(SECONDS)
    assert delivery.take_done()
    assert not delivery.take_done(), "once"
    assert not delivery.wait(0)
    assert (sink.attempts, saved) == ([(5, 1), (5, 2), (5, 3)], [5])
    assert (delivery.delivered, delivery.failures, delivery.error, delivery.running_since) == (1, 2, None, None)
    assert "attempt 2 failed: not yet; trying again in 0 s, 7 waiting" in caplog.text


def test_an_attempt_that_is_aborted_counts_as_none_and_the_next_event_waits_for_its_end() -> None:
    may_end = threading.Event()

    def act(*_: object) -> None:
        may_end.wait(SECONDS)

    sink = Acts(act)
    delivery = SinkDelivery(sink, lambda _: None, lambda: 0)
    delivery.begin(pending(5))
    eventually(lambda: delivery.running_since is not None, "it runs")
    assert delivery.abort(wait=False)
    delivery.begin(pending(6))
    assert not delivery.take_done(), "it hasn't ended"
    may_end.set()
    assert delivery.wait(SECONDS)
    assert not delivery.take_done(), "it was aborted, though it succeeded"
    delivery.begin(pending(6))
    delivery.wait(SECONDS)
    assert delivery.take_done()
    assert (sink.attempts, delivery.delivered, delivery.failures) == ([(5, 1), (6, 1)], 1, 0)


def test_between_two_attempts_an_event_is_aborted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.handover.delivery.RETRIES", Backoff(min_s=1e6, max_s=1e6, stable_s=math.inf))

    def act(*_: object) -> None:
        raise SinkError("no")

    delivery = SinkDelivery(Acts(act), lambda _: None, lambda: 0)
    delivery.begin(pending(5))
    eventually(lambda: delivery.failures == 1 and delivery.running_since is None, "it has failed")
    assert delivery.error == "no"
    assert not delivery.abort(wait=True), "no attempt was running"
    assert not delivery.take_done()
    assert not delivery.wait(0)


@pytest.mark.parametrize("how", ["_on_lost", "_on_revoke"])
def test_a_follower_that_loses_the_partition_during_an_attempt_goes_on_waiting(how: str) -> None:
    """It waits for the event in progress instead of for messages: an aborted one that is never taken would end each
    wait at once, and the loop would take a whole core until the partition comes back."""

    def act(_: PendingEvent, abort: threading.Event) -> None:
        abort.wait(SECONDS)
        raise SinkError("aborted")

    sink = Acts(act)
    nowhere = {"bootstrap.servers": f"127.0.0.1:{free_port()}", "log_level": 0}
    delivery = SinkDelivery(sink, lambda _: None, lambda: 0)
    stopping = threading.Event()
    start = StartPosition(Location(Path("unused")), sink.name, nowhere, "archiver", 0)
    membership = follower._Membership(nowhere, "archiver", ("a" * 16,), sink, delivery, start, stopping)  # noqa: SLF001 - a session that expires takes 30 s
    try:
        membership._pending = PendingEvents(0)  # noqa: SLF001 - a session that expires takes 30 s
        delivery.begin(pending(5))
        eventually(lambda: bool(sink.attempts), "an attempt runs")
        consumer = membership._consumer  # noqa: SLF001 - a session that expires takes 30 s
        getattr(membership, how)(consumer, [TopicPartition(FILES_TOPIC, 0)])
        assert delivery.wait(SECONDS), "until it is aborted"
        membership.poll_once()
        assert not delivery.wait(0), "nothing is in progress any more"
    finally:
        membership.close()
