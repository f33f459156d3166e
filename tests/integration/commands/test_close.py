"""An ingest dies without a word: an operator ends its acquisition, in every archive, and nothing else changes."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import parse_header
from tests.support.commands import archiver, close
from tests.support.processes import SECONDS, RawSender, Recorder, eventually, flow, scan

A = "a" * 16
STEPPED_CLOCK = str(Path(__file__).parents[2] / "support" / "injection" / "stepped_clock.py")


def publish(recorder: Recorder, *records: tuple[Kind, bytes], seconds_ago: float) -> None:
    """As an ingest that did this so long ago."""
    producer = Producer({"bootstrap.servers": recorder.servers})
    for seq, (kind, value) in enumerate(records):
        label = RecordHeaders(
            kind, A, seq, parse_header(value, 0)[2] if value else None, why="reset by peer" if not value else None
        )
        headers: list[tuple[str, str | bytes | None]] = [*label.to_kafka()]
        at = round((time.time() - seconds_ago) * 1000)
        producer.produce(frames_topic(recorder.stream), value, headers=headers, timestamp=at, partition=0)
    assert producer.flush(SECONDS) == 0


def commands_without_kafka_fail_and_say_why(recorder: Recorder) -> None:
    """All at once, as each tries for 10 s."""
    commands = (("files",), ("status",), ("close", "--stream", "x"))
    with ThreadPoolExecutor() as pool:
        for done in pool.map(lambda c: archiver(recorder, *c, "--bootstrap-servers", "127.0.0.1:1"), commands):
            assert (done.returncode, done.stdout) == (1, "")
            assert "Kafka at 127.0.0.1:1: 127.0.0.1:1/bootstrap: Connect to" in done.stderr


def test_close_ends_the_acquisition_of_a_killed_ingest_and_the_next_goes_on(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest, recording = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + scan(1))
            opened = recording.await_line(r"opened (\S+)")[1]
            alive = close(recorder)
            assert alive.returncode == 1
            assert "is alive: its last record is" in alive.stderr
            ingest.kill()
        count = len(recorder.records())
        died = time.time()
        commands_without_kafka_fail_and_say_why(recorder)  # which takes most of the 10 s of silence that are needed
        eventually(lambda: time.time() > died + 10.1, "10 s of silence")
        done = close(recorder, "--why", "smurf-srv12 lost\npower")
        assert (done.returncode, done.stderr) == (0, "")
        recording.await_line(rf"finished {opened} \(disconnected: smurf-srv12 lost power\): 2 frames")
        *_, (label, at, value) = recorder.records()
        assert len(recorder.records()) == count + 1
        assert (label.kind, label.why, label.operator, value) == (Kind.LOST, "smurf-srv12 lost power", True, b"")
        assert abs(at / 1000 - time.time()) < SECONDS
        again = close(recorder)
        assert again.returncode == 0
        assert "nothing to close" in again.stdout
        assert "smurf-srv12 lost power" in again.stdout
        assert len(recorder.records()) == count + 1
        recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(2) + flow(2))
            recording.await_line(r"finished .* \(end\): 1 frames")
    assert recording.stop() == 0
    assert "LOST" not in recording.log
    assert "two ingests" not in recording.log
    second = recorder.archiver(archive="second")
    second.await_line(r"finished .* \(end\)")
    assert recorder.tree("second") == recorder.tree()
    assert [file.read_bytes() for file in recorder.files()] == [scan(0) + scan(1), scan(2)]


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ((), "it has no frames"),
        (((Kind.START, flow(1)), (Kind.FRAME, scan(0)), (Kind.END, flow(2))), "no acquisition is open since end"),
        (((Kind.FRAME, scan(0)), (Kind.LOST, b"")), "since disconnected (reset by peer), 1 min"),
        (((Kind.FRAME, scan(0)), (Kind.LOST, b""), (Kind.CONNECTED, b""), (Kind.QUIET, b"")), "since connected"),
    ],
    ids=["no records", "end", "lost", "quiet since connected"],
)
def test_there_is_nothing_to_close_where_no_acquisition_is_on(
    recorder: Recorder, last: tuple[tuple[Kind, bytes], ...], said: str
) -> None:
    recorder.create_topic()
    publish(recorder, *last, seconds_ago=60)
    done = close(recorder)
    assert done.returncode == 0
    assert "nothing to close: " in done.stdout
    assert said in done.stdout
    assert len(recorder.records()) == len(last)


def test_an_ingest_whose_clock_is_behind_is_found_alive(recorder: Recorder) -> None:
    """Its records look old; but there are more and more of them."""
    recorder.create_topic()
    behind = recorder.directory / "behind"
    behind.write_text(str(-3600 * 10**9))
    spool = ["--stream", recorder.stream, "--spool-dir", str(recorder.directory / "spool"), "--spool-size", "1GiB"]
    with RawSender() as sender:
        source = ["--address", "127.0.0.1", "--port", str(sender.port), "--timeout", "60"]
        recorder.start(STEPPED_CLOCK, str(behind), "ingest", *spool, *source)
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0))
            eventually(lambda: Kind.FRAME in [label.kind for label, _, _ in recorder.records()], "a frame")
            done = close(recorder)
    assert done.returncode == 1
    assert "is alive: a record has just come" in done.stderr
    assert not any(label.operator for label, _, _ in recorder.records())


def test_an_unknown_stream_is_refused_with_those_there_are(recorder: Recorder) -> None:
    recorder.create_topic()
    done = archiver(recorder, "close", "--stream", "nosuchstream")
    assert done.returncode == 1
    assert "there is no stream nosuchstream" in done.stderr
    assert recorder.stream in done.stderr
