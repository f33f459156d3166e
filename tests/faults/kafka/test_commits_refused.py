"""Commits that Kafka refuses, and files that can't be finished: log and health show why, and nothing is lost."""

from pathlib import Path

import pytest

from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.support.archives import Source, all_committed, assert_same_tree, disturbed
from tests.support.health import await_health, await_healthy
from tests.support.processes import Recorder, eventually, get

TOO_SMALL = {"offset.metadata.max.bytes": "300"}
"""The metadata of a stream with an open file have about 500 characters, those of a stream without one 120."""
REFUSED = "Kafka refuses commits: .*set the brokers' offset.metadata.max.bytes to 4096"


@pytest.mark.slow
def test_metadata_that_the_broker_finds_too_large_are_reported_and_other_streams_committed(
    stream: str, tmp_path: Path
) -> None:
    broker, port = Broker(tmp_path / "kafka", free_port(), TOO_SMALL), free_port()
    with broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        refused, other = sources = [Source(recorder.servers, name, epochs=0) for name in (stream, f"{stream}-2")]
        for source in sources:
            recorder.create_topic(source.stream)
        flags = ["--stream", other.stream]
        archiver = recorder.archiver(*flags, "--http", str(port))
        archiver.await_line("health at")
        refused.start()
        refused.scans(20)
        archiver.await_line(f"WARNING +{stream}(-2)?: {REFUSED}")  # reported once, whichever is refused first
        await_health(port, "Kafka refuses commits: ", "set the brokers' offset.metadata.max.bytes to 4096")
        other.lost()
        eventually(lambda: all_committed(recorder, [other]), "the other stream is committed")
        assert not all_committed(recorder, [refused])
        refused.end()
        eventually(lambda: "committing the end of" in archiver.log, "it can't be finished either")
        await_health(port, "Kafka refuses commits: ")

        broker.stop()
        mended = Broker(tmp_path / "kafka", int(broker.bootstrap_servers.rpartition(":")[2]))
        with mended:
            archiver.await_line(rf"{stream}: finished .* \(end\)")
            await_healthy(port)
            eventually(lambda: all_committed(recorder, sources), "all committed")
            undisturbed = recorder.archiver(*flags, archive="undisturbed")
            undisturbed.await_line(rf"{stream}: finished .* \(end\)")
            assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
            assert archiver.stop() == 0
            assert len(archiver.times_of(REFUSED)) < 3


@pytest.mark.slow
def test_a_state_that_is_too_large_is_committed_without_what_it_can_spare(stream: str, tmp_path: Path) -> None:
    """The state has 32 producer epochs: 2,000 characters with a long name; 1,200 without, 1,400 at a file's end."""
    room = {"offset.metadata.max.bytes": "1600"}
    with (
        Broker(tmp_path / "kafka", properties=room) as broker,
        Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder,
    ):
        recorder.create_topic()
        source = Source(recorder.servers, stream)
        archiver = recorder.archiver()
        source.start()
        source.scans(20)
        archiver.await_line("WARNING .*offset.metadata.max.bytes")
        eventually(lambda: all_committed(recorder, [source]), "what is recorded is committed nevertheless")
        archiver.kill()
        again = recorder.archiver()
        source.scans(20)
        source.end()
        again.await_line(r"finished .* \(end\)")
        undisturbed = recorder.archiver(archive="undisturbed")
        undisturbed.await_line(r"finished .* \(end\)")
        assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
        assert "LOST" not in again.log
        assert again.stop() == 0


def test_a_file_that_cant_be_finished_is_reported_with_the_step_and_its_error(recorder: Recorder) -> None:
    recorder.create_topic()
    source, port = Source(recorder.servers, recorder.stream), free_port()
    fails = ["EIO", "before", r"link .*\.g3$", "--times", "12"]
    archiver = disturbed(recorder, fails, "--http", str(port), archive="archive")
    archiver.await_line("health at")
    source.start()
    source.scans(20)
    source.end()
    text = await_health(port, f"{recorder.stream}: ", "isn't finished ", " s after its end: publishing: ", "Errno 5")
    assert "_000.g3" in text
    assert "finishing_seconds" in get(port, "/metrics")[1]
    archiver.await_line(r"finished .* \(end\)")
    await_healthy(port)
    assert archiver.stop() == 0
