"""A stream whose recovery takes long, as its file is large or its disk slow, delays no other stream."""

import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer

from g3stream.contract.topics import FILES_TOPIC
from testbed.child_process import free_port
from tests.support.archives import (
    Gate,
    Source,
    all_committed,
    assert_same_tree,
    disturbed,
    left_behind,
    quick_session,
)
from tests.support.injection.proxy import FarBroker
from tests.support.processes import SECONDS, Program, Recorder, eventually, get

NEW_STREAMS = 40
"""More than there are recovery threads."""
OTHERS_EVENTS = 400_000
"""On g3.files: searching this many took 8 s, in which nothing was recorded."""
LATE_SECONDS = 2.0
"""Limit on a busy machine; a frame is in its file after some ms."""


class Two:
    """Two streams of one archive, each with an acquisition that has begun, and an undisturbed archive of them."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.streams = (recorder.stream, f"{recorder.stream}-2")
        self.sources = {stream: Source(recorder.servers, stream) for stream in self.streams}
        for stream in self.streams:
            recorder.create_topic(stream)
        self._quick = quick_session(recorder.directory)
        self.undisturbed = self.archiver("u", archive="undisturbed")

    def archiver(
        self, name: str, happens: Sequence[str] = (), *, archive: str = "archive", flags: Sequence[str] = ()
    ) -> Program:
        """One that records both, by that instance id. happens: as `disturbed` takes it."""
        identity = ["--instance-id", f"{self.recorder.stream}-{name}", *self._quick]
        flags = ["--stream", self.streams[1], *identity, *flags]
        if happens:
            return disturbed(self.recorder, list(happens), *flags, archive=archive)
        return self.recorder.archiver(*flags, archive=archive)

    def begin(self, count: int) -> None:
        """Send this many frames of 200 kB on each, and wait until all are committed."""
        for source in self.sources.values():
            source.start()
            source.scans(count, 200_000)
        self.await_committed(*self.streams)

    def goes_on(self, stream: str) -> None:
        """Wait until its frames are recorded."""
        self.sources[stream].scans(20)
        self.await_committed(stream)

    def await_committed(self, *streams: str) -> None:
        """Wait until all that was sent on these is recorded and committed."""
        sources = [self.sources[stream] for stream in streams]
        eventually(lambda: all_committed(self.recorder, sources), f"{', '.join(streams)} recorded")

    def end(self, *archivers: Program) -> None:
        """End the acquisitions; check that these finish all, as the undisturbed archive does."""
        for source in self.sources.values():
            source.end()
        for stream in self.streams:
            line = rf" {stream}: finished .* \(end\)"
            eventually(lambda line=line: any(one.times_of(line) for one in archivers), "it is finished")  # type: ignore[misc]
            self.undisturbed.await_line(line)
        assert_same_tree(self.recorder.tree(), self.recorder.tree("undisturbed"))
        assert not any("LOST" in archiver.log for archiver in archivers)


def shared(two: Two) -> tuple[Program, str, Program, str]:
    """Two archivers, each with the stream that it has."""
    a = two.archiver("a")
    a.await_line(f"recording {', '.join(two.streams)}$")
    b = two.archiver("b")
    found = b.await_line(r"INFO +recording ((?!to )\S+)$")[1]
    (other,) = set(two.streams) - {found}
    return a, other, b, found


def with_a_large_file(two: Two, gate: list[str]) -> tuple[Program, str, Program, str]:
    """As `shared`; b is one to which that happens, and a is frozen past its session."""
    a, of_a, b, of_b = shared(two)
    two.begin(100)
    assert b.stop() == 0
    b = two.archiver("b", gate)
    b.await_line(f"recording {of_b}")
    a.send(signal.SIGSTOP)
    b.await_line("^stopped_at: hold")
    return a, of_a, b, of_b


@pytest.mark.slow
def test_while_a_frozen_archivers_file_is_copied_the_other_stream_is_recorded(
    recorder: Recorder, tmp_path: Path
) -> None:
    two, gate = Two(recorder), Gate(tmp_path)
    # The call that both a copy in the polling thread and one in another thread would come to.
    directories = "|".join(two.streams)
    a, of_a, b, of_b = with_a_large_file(
        two, [*gate.at(rf"fsync .*/\.archiver/({directories})$"), "--since", "^committed "]
    )
    b.await_line("is locked by a frozen archiver; continuing in a copy")
    two.goes_on(of_b)
    gate.open()
    two.goes_on(of_a)
    a.kill()
    two.end(b)


@pytest.mark.slow
def test_a_stop_while_a_file_is_copied_leaves_no_copy_behind(recorder: Recorder, tmp_path: Path) -> None:
    two, gate = Two(recorder), Gate(tmp_path)
    a, of_a, b, of_b = with_a_large_file(two, gate.at("copy_file_range ", nth=2))
    private = recorder.data() / ".archiver" / of_a
    assert len(list(private.glob("*_*"))) == 2, "the copy has begun"
    two.goes_on(of_b)
    b.send(signal.SIGTERM)
    b.await_line("stopping")
    gate.open()
    assert b.exit_code(10) == 0
    b.await_line("everything recorded is durable and committed")
    assert len(list(private.glob("*_*"))) == 1, "the copy is removed"
    a.kill()
    b = two.archiver("b")
    two.goes_on(of_a)
    two.end(b)
    assert left_behind(recorder, "archive") == []


@pytest.mark.slow
@pytest.mark.parametrize("found", ["when it is recovered", "when it is finished"])
def test_while_a_damaged_file_is_removed_the_other_stream_is_recorded(
    recorder: Recorder, tmp_path: Path, found: str
) -> None:
    two, gate = Two(recorder), Gate(tmp_path)
    damaged, other = two.streams
    archiver = two.archiver("a")
    two.begin(5)
    archiver.kill()
    (partial,) = (recorder.data() / ".archiver" / damaged).glob("*_*")
    with partial.open("r+b") as file:
        if found == "when it is recovered":
            file.truncate(300_000)
        else:
            file.seek(300_000)
            file.write(b"something else")
    port = free_port()
    flags = ["--http", str(port)]
    archiver = two.archiver("a", gate.at(rf"unlink .*/{re.escape(partial.name)}$"), flags=flags)
    two.goes_on(other)
    if found == "when it is finished":
        two.sources[damaged].end()
    archiver.await_line("^stopped_at: hold")
    two.goes_on(other)
    assert taking_up_seconds(port) == {damaged: True, other: False}
    gate.open()
    archiver.await_line(f"{damaged}: .* must be rebuilt")
    if found == "when it is finished":
        archiver.await_line(rf" {damaged}: finished .* \(end\)")
        two.sources[damaged].now += 1000
        two.sources[damaged].start()
    two.goes_on(damaged)
    two.end(archiver)


def taking_up_seconds(port: int) -> dict[str, bool]:
    """By stream, whether it is being recovered, by the metrics."""
    _, text = get(port, "/metrics")
    samples = re.findall(r'^g3_archiver_taking_up_seconds{stream="([^"]+)"} (\S+)$', text, re.MULTILINE)
    return {stream: float(seconds) > 0 for stream, seconds in samples}


@pytest.mark.slow
def test_while_g3_files_is_searched_for_a_new_stream_the_other_is_recorded(stream: str, tmp_path: Path) -> None:
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        new = f"{stream}-new"
        recorder.create_topic()
        archiver = recorder.archiver("--stream", new)
        source = Source(recorder.servers, stream)
        source.start()
        source.scans(1)
        archiver.await_line("opened")
        publish_others_events(recorder.servers)
        (partial,) = (recorder.data() / ".archiver" / stream).glob("*_*")
        recorder.create_topic(new)
        late, beginning = 0.0, None
        while not archiver.times_of(f"{new}: opened"):
            if archiver.times_of(f"recording {new}") and beginning is None:
                beginning = Source(recorder.servers, new)
                beginning.start()
            size, begun = partial.stat().st_size, time.monotonic()
            source.scans(1)
            eventually(lambda size=size: partial.stat().st_size > size, "the frame recorded")  # type: ignore[misc]
            late = max(late, time.monotonic() - begun)
        assert late < LATE_SECONDS


@pytest.mark.slow
def test_while_g3_files_says_nothing_to_many_new_streams_one_with_a_state_is_recovered(
    stream: str, tmp_path: Path
) -> None:
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        source, gate = Source(recorder.servers, stream), Gate(tmp_path)
        source.start()
        archiver = recorder.archiver()
        eventually(lambda: all_committed(recorder, [source]), "all committed")
        assert archiver.stop() == 0
        new = [f"a{number}-{stream}" for number in range(NEW_STREAMS)]  # by name, all before it
        for name in new:
            recorder.create_topic(name)
        flags = [flag for name in new for flag in ("--stream", name)]
        archiver = disturbed(recorder, gate.at(f"watermarks {FILES_TOPIC}$"), *flags, archive="archive")
        archiver.await_line("^stopped_at: hold")
        archiver.await_line(f"{stream}: continuing")
        source.scans(20)
        eventually(lambda: all_committed(recorder, [source]), "all committed")
        gate.open()


def publish_others_events(servers: str) -> None:
    """Very many events of another group."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for number in range(OTHERS_EVENTS):
        producer.produce(FILES_TOPIC, b"{}", f"other/stream/{number}", partition=0)
    assert producer.flush(SECONDS) == 0
