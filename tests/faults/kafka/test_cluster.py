"""Three brokers, three replicas of each partition: brokers fail and return one by one, and no frame is late.

Each test prints the frames' lag: the time from sending one until it can be read in the open file.
"""

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from g3stream.contract.topics import FILES_TOPIC, frames_topic
from testbed.kafka.cluster import Cluster
from tests.support.archives import ONLY_IN_FULL, assert_same_tree, published_events, verified_files
from tests.support.injection.lateness import EVERY_SECONDS, Stream
from tests.support.processes import SECONDS, Program, Recorder, admin_client, eventually

pytestmark = pytest.mark.slow

LATE_SECONDS = 60.0
"""Maximum lag of a frame, whatever happens to one broker: a few seconds, unless the machine is busy."""

STREAMS = 2
ROTATION = ("--time-per-file", "4")
"""Files are also finished during the faults, which takes commits and an event on g3.files."""

SILENT_SECONDS = 120.0
"""The same if a broker hangs with its connections open, as two successive requests may each wait 4 s for it; and
after an outage of Kafka, once the brokers are back, as the archiver may have to rejoin its group. Usually below 20 s.
"""

RANDOM_SECONDS = 180.0

DEFAULT_SESSION = {"broker.session.timeout.ms": "9000", "broker.heartbeat.interval.ms": "2000"}
"""The brokers' default session timeout, after which a dead broker is fenced. Ours have 2 s."""

AWAY = "Kafka at .* does not acknowledge"
"""The problem that ingest reports after 5 s."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as started:
        started.await_in_sync()
        yield started


class Site:
    """Streams that one archiver records from a cluster, and the lags of their frames.

    patience: maximum lag during a fault of one broker, s.
    """

    def __init__(self, cluster: Cluster, name: str, directory: Path, patience: float = LATE_SECONDS) -> None:
        self.patience = patience
        self.cluster = cluster
        self.admin = admin_client(cluster.bootstrap_servers)
        self._recorders = [
            Recorder(cluster.bootstrap_servers, f"{name}-{number}", directory / str(number))
            for number in range(STREAMS)
        ]
        self.recorder = self._recorders[0]
        self._phases: list[tuple[float, str]] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    # What an operator sees of the cluster

    def leader(self, topic: str) -> int:
        """Return the leader of a topic's first partition."""
        return self.admin.list_topics(topic, SECONDS).topics[topic].partitions[0].leader

    def coordinator(self) -> int:
        """Return the coordinator of the archiver's group; all groups' commits are in one partition here."""
        return self.leader("__consumer_offsets")

    def controller(self) -> int:
        """Return the active controller. Clients can't query it: each broker has it in a file."""
        leader = -1
        while leader < 0:
            broker = next(broker for broker in self.cluster.brokers.values() if broker.pid is not None)
            state = broker.log.with_name("data") / "__cluster_metadata-0" / "quorum-state"
            leader = json.loads(state.read_text())["leaderId"]
        return leader

    def called(self, number: int) -> str:
        """Return a broker's name for the report; without the active controller Kafka recovers more slowly."""
        return f"broker {number}{', the controller' if self.controller() == number else ''}"

    # Faults

    def phase(self, name: str) -> None:
        """Begin a phase of the report."""
        self._phases.append((time.monotonic(), name))
        print(f"{time.strftime('%H:%M:%S')} {name}")

    def want_copies(self, topics: Sequence[str], copies: int) -> None:
        """Change min.insync.replicas of these topics."""
        setting = ConfigEntry("min.insync.replicas", str(copies), incremental_operation=AlterConfigOpType.SET)
        resources = [ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[setting]) for topic in topics]

        def changed() -> bool:
            # A new client: an older one keeps sending requests to the controller that it knew, even if it is dead.
            admin = admin_client(self.cluster.bootstrap_servers)
            try:
                for done in admin.incremental_alter_configs(resources, request_timeout=3).values():
                    done.result(SECONDS)
            except KafkaException:
                return False
            return True

        eventually(changed, "the topics' settings changed")

    def await_recorded(self, seconds: float | None = None) -> None:
        """Wait until all that has been sent by now can be read. Fails if that takes longer than `seconds`."""
        counts = [len(stream.sent) for stream in self.streams]

        def recorded() -> bool:
            """Return whether the next frame is readable too: the last one may have been counted while being sent."""
            return all(
                len(stream.sent) > count and stream.readable >= stream.sent[count][1]
                for stream, count in zip(self.streams, counts, strict=True)
            )

        eventually(recorded, "all that had been sent readable in the files", seconds or self.patience)

    def finish(self) -> None:
        """Send END; check that all is in the files, once, in order, and as an undisturbed archiver records it."""
        for stream in self.streams:
            stream.finish()
        for stream in self.streams:
            self.archiver.await_line(rf"{stream.name}: finished .* \(end\)")
        for program in (self.archiver, *(stream.ingest for stream in self.streams)):
            assert "connection closed" not in program.log
            assert program.stop() == 0
            assert "LOST" not in program.log
        for stream in self.streams:
            recorded = b"".join(path.read_bytes() for path in self.files(stream))
            sent = b"".join(stream.frames)
            assert len(recorded) == len(sent)
            assert recorded == sent
        undisturbed = self._archiver("undisturbed")
        for stream in self.streams:
            undisturbed.await_line(rf"{stream.name}: finished .* \(end\)")
        assert undisturbed.stop() == 0
        assert_same_tree(self.recorder.tree(), self.recorder.tree("undisturbed"))
        files = [event["path"] for _, event in published_events(self.recorder) if event["event"] == "file"]
        assert sorted(files) == verified_files(self.recorder, "archive")

    def files(self, stream: Stream) -> list[Path]:
        """Return a stream's finished files."""
        return sorted(self.recorder.data().glob(f"*/{stream.name}/*.g3"))

    def report(self) -> float:
        """Print the frames' lags in each phase. Returns the maximum of all, s."""
        worst = 0.0
        late = [each for stream in self.streams for each in stream.lateness()]
        ends = [at for at, _ in self._phases[1:]] + [time.monotonic()]
        for (since, name), until in zip(self._phases, ends, strict=True):
            found = sorted(late for sent, late in late if since <= sent < until)
            if found:
                middle, most = found[len(found) // 2], found[-1]
                over = sum(late > 1 for late in found)
                print(f"{name:60} {len(found):5} frames, late p50 {middle:.3f} max {most:.2f} s; {over} over 1 s")
                worst = max(worst, most)
        return worst

    def __enter__(self) -> Self:
        self.streams = [Stream(recorder) for recorder in self._recorders]
        self.archiver = self._archiver("archive")
        self._watcher.start()
        self.await_recorded(SECONDS)
        # Of what was sent before the archiver ran.
        self.phase("started")
        self.await_recorded()
        self.phase("undisturbed")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if error is not None:
            self.report()
        for recorder in self._recorders:
            recorder.__exit__(kind, error, trace)

    def _archiver(self, archive: str) -> Program:
        others = [flag for recorder in self._recorders[1:] for flag in ("--stream", recorder.stream)]
        return self.recorder.archiver(*ROTATION, *others, archive=archive)

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            for stream in self.streams:
                stream.measure(self.recorder.data())


VICTIMS: dict[str, Callable[[Site], int]] = {
    "the leader of a stream": lambda site: site.leader(frames_topic(site.streams[0].name)),
    "the controller": lambda site: site.controller(),
    "the group's coordinator": lambda site: site.coordinator(),
    "the leader of g3.files": lambda site: site.leader(FILES_TOPIC),
    "a follower": lambda site: next(n for n in (1, 2, 3) if n != site.leader(frames_topic(site.streams[0].name))),
}


def kill_and_start(site: Site, what: str) -> None:
    """Kill (SIGKILL) the broker with this role, and start it again when recording has continued without it."""
    victim = VICTIMS[what](site)
    site.phase(f"{what} ({site.called(victim)}) is killed")
    site.cluster.brokers[victim].kill()
    site.await_recorded()
    site.phase("it comes back")
    site.cluster.brokers[victim].start()
    site.cluster.await_in_sync()
    site.await_recorded()


def freeze_and_thaw(site: Site, what: str) -> None:
    """Freeze the broker: it doesn't answer, and its connections stay open, as when its host loses power."""
    victim = VICTIMS[what](site)
    site.phase(f"{what} ({site.called(victim)}) falls silent")
    pid = site.cluster.brokers[victim].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        site.await_recorded(SILENT_SECONDS)
    finally:
        os.kill(pid, signal.SIGCONT)
    site.phase("it continues")
    site.cluster.await_in_sync()
    site.await_recorded()


def stop_and_start(site: Site, number: int) -> None:
    """Restart a broker as an operator does, and wait until it is in sync."""
    site.phase(f"broker {number} is stopped and started")
    site.cluster.brokers[number].stop()
    site.cluster.brokers[number].start()
    site.cluster.await_in_sync()
    site.await_recorded()


def lose_two(site: Site, numbers: Sequence[int]) -> None:
    """Kill two brokers: nothing can be acknowledged, so all that is sent waits in the spools."""
    site.phase(f"brokers {numbers[0]} and {numbers[1]} are killed")
    for number in numbers:
        site.cluster.brokers[number].kill()
    complaints = [len(each.ingest.times_of(AWAY)) for each in site.streams]
    for each, before in zip(site.streams, complaints, strict=True):
        each.ingest.await_line(AWAY, count=before + 1)
    waiting = [len(each.sent) - len(each.lateness()) for each in site.streams]
    site.cluster.start()
    site.phase("they are back")
    assert min(waiting) > 1 / EVERY_SECONDS
    site.await_recorded(SILENT_SECONDS)
    site.cluster.await_in_sync()


def too_few_in_sync(site: Site, number: int) -> None:
    """Kill one broker while 3 in-sync replicas are required: every write is refused (NOT_ENOUGH_REPLICAS)."""
    site.phase(f"broker {number} is killed, and all three are required")
    topics = [frames_topic(each.name) for each in site.streams]
    site.want_copies(topics, 3)
    site.cluster.brokers[number].kill()
    complaints = [len(each.ingest.times_of(AWAY)) for each in site.streams]
    for each, before in zip(site.streams, complaints, strict=True):
        each.ingest.await_line(AWAY, count=before + 1)
    site.want_copies(topics, 2)
    site.phase("two are enough again")
    site.await_recorded(SILENT_SECONDS)
    site.phase("it comes back")
    site.cluster.brokers[number].start()
    site.cluster.await_in_sync()


def test_brokers_are_killed_and_come_back_while_it_records(cluster: Cluster, stream: str, tmp_path: Path) -> None:
    with Site(cluster, stream, tmp_path) as site:
        for what in ("the leader of a stream", "the group's coordinator"):
            kill_and_start(site, what)
        site.finish()
        assert site.report() < LATE_SECONDS


def test_a_rolling_restart_while_it_records(cluster: Cluster, stream: str, tmp_path: Path) -> None:
    with Site(cluster, stream, tmp_path) as site:
        for number in cluster.brokers:
            stop_and_start(site, number)
        site.finish()
        assert site.report() < LATE_SECONDS


def test_two_brokers_die_and_recording_continues_when_they_are_back(
    cluster: Cluster, stream: str, tmp_path: Path
) -> None:
    with Site(cluster, stream, tmp_path) as site:
        lose_two(site, (1, 2))
        site.finish()
        site.report()


def test_a_broker_falls_silent(cluster: Cluster, stream: str, tmp_path: Path) -> None:
    with Site(cluster, stream, tmp_path) as site:
        freeze_and_thaw(site, "the leader of a stream")
        site.finish()
        assert site.report() < SILENT_SECONDS


@ONLY_IN_FULL
def test_with_the_session_that_brokers_have_by_default(stream: str, tmp_path: Path) -> None:
    with (
        Cluster(tmp_path / "kafka", properties=DEFAULT_SESSION) as cluster,
        Site(cluster, stream, tmp_path, patience=SILENT_SECONDS) as site,
    ):
        for what in VICTIMS:
            kill_and_start(site, what)
        freeze_and_thaw(site, "the leader of a stream")
        for number in cluster.brokers:
            stop_and_start(site, number)
        site.finish()
        site.report()


@ONLY_IN_FULL
@pytest.mark.timeout(900)
def test_faults_at_random(cluster: Cluster, stream: str, tmp_path: Path, dice: random.Random) -> None:
    until = time.monotonic() + RANDOM_SECONDS
    with Site(cluster, stream, tmp_path) as site:
        while time.monotonic() < until:
            # Rare faults sometimes, ordinary ones more often.
            faults: list[Callable[[], None]] = [
                lambda: kill_and_start(site, dice.choice(sorted(VICTIMS))),
                lambda: kill_and_start(site, dice.choice(sorted(VICTIMS))),
                lambda: freeze_and_thaw(site, dice.choice(sorted(VICTIMS))),
                lambda: stop_and_start(site, dice.choice([1, 2, 3])),
                lambda: lose_two(site, dice.sample([1, 2, 3], 2)),
                lambda: too_few_in_sync(site, dice.choice([1, 2, 3])),
            ]
            dice.choice(faults)()
            time.sleep(dice.uniform(0, 4))  # at any time of a file's life
        site.finish()
        site.report()
