"""A follower's promises to its sink, on a real broker: each event, in order, until it is done, by one at a time."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer

from archiver.archive.archive_settings import initialize
from archiver.archive.location import Location
from archiver.core.events import Event, FileRetired, encode
from archiver.handover.follower import Follower
from archiver.handover.schedule import group_of
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC
from g3stream.contract.topics import FILES_TOPIC
from g3stream.kafka.topic_admin import TopicAdmin
from testbed.kafka.broker import Broker
from tests.support.processes import SECONDS, admin_client, eventually
from tests.unit.archiver.core.test_catalog import finished, lost

PATH = "15463/s/2019-01-01-12-00-00_000.g3"
IDS = ("0123456789abcdef",)
QUICK = {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}


class Site:
    """An archive's group and topic, followers of it, and what their sinks got: pairs of sink and offset."""

    def __init__(self, servers: str, group: str, data_dir: Path) -> None:
        self.servers, self.group = servers, group
        self.location = Location(data_dir)
        initialize(Location(data_dir), None)
        self.config: dict[str, Any] = {"bootstrap.servers": servers, **QUICK}
        self._producer = Producer({"bootstrap.servers": servers})
        self.since_ms = int(time.time() * 1000)
        self.numbers = iter(range(10_000))

    def publish(self, event: Event) -> int:
        """Publish it; gives its offset."""
        offsets: list[int] = []

        def delivered(_: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            assert offset is not None
            offsets.append(offset)

        self._producer.produce(FILES_TOPIC, encode(event), event.key.encode(), on_delivery=delivered)
        self._producer.flush(SECONDS)
        return offsets[0]

    def publish_file(self) -> int:
        """Publish one of our files."""
        return self.publish(finished(next(self.numbers), group=self.group))

    @contextmanager
    def follower(self, sink: "Collects", since_ms: int | None = None) -> Iterator[Follower]:
        """One that follows until the end of the block."""
        since_ms = self.since_ms if since_ms is None else since_ms
        follower = Follower(self.config, self.location, self.group, lambda: IDS, sink, since_ms)
        follower.start()
        try:
            yield follower
        finally:
            follower.stop()
            follower.join()


class Collects:
    """A sink that notes what it gets. fail: gives what to raise, if anything."""

    name = "collects"

    def __init__(self, act: Callable[[PendingEvent, threading.Event], None] = lambda *_: None) -> None:
        self.got: list[PendingEvent] = []
        self.done: list[int] = []
        self.threads: set[str] = set()
        self._act = act

    def wants(self, event: Event) -> bool:
        return "unwanted" not in event.key

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.got.append(pending)
        self._act(pending, abort)
        self.done.append(pending.offset)


@pytest.fixture
def site(kafka: str, stream: str, tmp_path: Path) -> Site:
    TopicAdmin({"bootstrap.servers": kafka}).ensure(EXPECTED_FILES_TOPIC)
    return Site(kafka, stream, tmp_path)


def test_events_of_the_archive_come_in_order_each_once_and_a_restart_goes_on(site: Site) -> None:
    before = site.publish_file()
    site.since_ms = int(time.time() * 1000) + 1
    eventually(lambda: time.time() * 1000 > site.since_ms, "what comes next is later")
    sink = Collects()
    with site.follower(sink) as follower:
        eventually(lambda: follower.status().active, "the group has given it the topic")
        expected = [site.publish_file()]
        site.publish(finished(0, group=f"{site.group}2"))
        expected += [site.publish(lost(7, 1_546_344_000_000, group=site.group)), site.publish_file()]
        expected += [site.publish(FileRetired(site.group, "s", PATH, "0" * 64, 1, site.since_ms, "me", "here"))]
        eventually(lambda: sink.done == expected, "all handed over")
    expected += [site.publish_file(), site.publish_file()]
    with site.follower(sink, since_ms=2**60) as follower:
        eventually(lambda: len(sink.done) == len(expected), "what came meanwhile handed over")
        eventually(lambda: follower.status().backlog == 0, "nothing waits")
        assert follower.status().delivered == 2
    assert sink.done == expected
    assert before not in sink.done
    assert [found.attempt for found in sink.got] == [1] * len(expected)
    assert sink.threads == {"sink collects"}


def test_an_event_that_fails_is_tried_until_it_is_done_and_the_next_ones_wait(site: Site) -> None:
    may_pass = threading.Event()

    def act(_: PendingEvent, __: threading.Event) -> None:
        if not may_pass.is_set():
            raise SinkError("not yet")

    sink = Collects(act)
    with site.follower(sink) as follower:
        expected = [site.publish_file() for _ in range(3)]
        eventually(lambda: follower.status().failures >= 2, "tried again")
        status = follower.status()
        assert (status.backlog, status.error, status.delivered) == (3, "not yet", 0)
        assert "3 events waiting" in str(status.warning(time.time(), time.monotonic()))
        may_pass.set()
        eventually(lambda: sink.done == expected, "all handed over")
        eventually(lambda: follower.status().backlog == 0, "nothing waits")
        assert follower.status().warning(time.time(), time.monotonic()) is None
    first = [found.attempt for found in sink.got if found.offset == expected[0]]
    assert first == list(range(1, len(first) + 1))
    assert len(sink.got) == len(first) + 2, "the others once each"


def test_of_two_followers_one_does_it_and_the_other_takes_over_what_is_not_done(site: Site) -> None:
    """The first one is stopped while it is at an event: that event comes again."""

    def until_aborted(pending: PendingEvent, abort: threading.Event) -> None:
        if pending.event.key.endswith("_001.g3"):
            abort.wait()
            raise SinkError("aborted")

    first, second = Collects(until_aborted), Collects()
    with ExitStack() as second_ends:
        with site.follower(first) as one:
            eventually(lambda: one.status().active, "the group has given it the topic")
            other = second_ends.enter_context(site.follower(second))
            expected = [site.publish_file() for _ in range(3)]
            eventually(lambda: len(first.got) == 2, "the first one is at the second event")
            assert not other.status().active
            assert second.got == []
        eventually(lambda: second.done == expected[1:], "the second one has taken over")
    assert first.done == expected[:1]


def test_what_a_sink_raises_by_mistake_is_logged_and_tried_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def act(pending: PendingEvent, _: threading.Event) -> None:
        assert pending.attempt > 1, "a fault of the sink"

    sink = Collects(act)
    with site.follower(sink):
        expected = site.publish_file()
        eventually(lambda: sink.done == [expected], "handed over at the second attempt")
    assert "a fault of the sink" in caplog.text
    assert "Traceback" in caplog.text


def test_a_position_that_kafka_has_forgotten_is_known_still(site: Site) -> None:
    """As a week after the last archiver with that sink has gone."""
    sink = Collects()
    with site.follower(sink):
        expected = [site.publish_file(), site.publish_file()]
        eventually(lambda: sink.done == expected, "both handed over")
    group = group_of(site.group, sink.name, IDS[0])
    admin = admin_client(site.servers)

    def forgotten() -> bool:  # not while the group still counts with its member
        return admin.delete_consumer_groups([group])[group].exception(SECONDS) is None

    eventually(forgotten, "the group deleted")
    expected.append(site.publish_file())
    with site.follower(sink, since_ms=2**60):
        expected.append(site.publish_file())
        eventually(lambda: sink.done[-1:] == expected[-1:], "all handed over")
    assert sink.done[2:] in (expected[1:], expected[2:]), "the last one again, at most, and all since"


@pytest.mark.slow
def test_in_a_topic_made_anew_all_events_are_handed_over(stream: str, tmp_path: Path) -> None:
    with Broker(tmp_path / "kafka") as broker:
        topics = TopicAdmin({"bootstrap.servers": broker.bootstrap_servers})
        site = Site(broker.bootstrap_servers, stream, tmp_path / "data")

        def make_anew() -> None:
            admin = admin_client(site.servers)
            admin.delete_topics([FILES_TOPIC])[FILES_TOPIC].result(SECONDS)
            eventually(lambda: FILES_TOPIC not in admin.list_topics(timeout=SECONDS).topics, "the topic gone")
            topics.ensure(EXPECTED_FILES_TOPIC)

        topics.ensure(EXPECTED_FILES_TOPIC)
        sink = Collects()
        with site.follower(sink):
            expected = [site.publish_file() for _ in range(3)]
            eventually(lambda: sink.done == expected, "all handed over")
            make_anew()
            expected += [site.publish_file(), site.publish_file()]
            eventually(lambda: sink.done == expected, "all of the new topic")
        make_anew()
        expected += [site.publish_file() for _ in range(5)]
        with site.follower(sink):
            eventually(lambda: sink.done == expected, "all of the newest topic, which has more")
    assert expected == [0, 1, 2, 0, 1, 0, 1, 2, 3, 4]
