"""A resolver that answers nothing, for two minutes a name: what can be read is, and a stop takes seconds."""

from pathlib import Path

import pytest

from tests.support.injection.shims import compiled
from tests.support.processes import RawSender, Recorder, eventually, flow, scan

DEAD = "dead.example.org"
"""Its name takes four times as long as tests wait for the end of a program."""
ASKED = "a dead name was asked for"
"""What the resolver says then, in the program's log."""


@pytest.fixture
def dead_resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Programs that are started from now on have one, until that is undone."""
    monkeypatch.setenv("LD_PRELOAD", compiled("dead_resolver", tmp_path))
    return monkeypatch


def test_ingest_reads_although_kafkas_name_is_unknown_and_stops(
    recorder: Recorder, dead_resolver: pytest.MonkeyPatch
) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--bootstrap-servers", f"{DEAD}:9092")
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(1))
            ingest.await_line("first frame")
            ingest.await_line(ASKED)
            ingest.await_line("can't be used yet")
            assert ingest.stop() == 0
        assert "wait in the spool" in ingest.log
        dead_resolver.delenv("LD_PRELOAD")
        again = recorder.ingest(sender.port)
        with sender.accept():
            eventually(lambda: any(headers.num == 1 for headers, _, _ in recorder.records()), "the frame in Kafka")
            assert again.stop() == 0


@pytest.mark.usefixtures("dead_resolver")
def test_ingest_stops_while_its_senders_name_is_asked_for(recorder: Recorder) -> None:
    recorder.create_topic()
    ingest = recorder.ingest(None, "--address", DEAD, "--port", "4536")
    ingest.await_line(ASKED)
    eventually(lambda: bool(recorder.records()), "what it says at its start is in Kafka")
    assert ingest.stop() == 0
    assert "stopped; everything received is published" in ingest.log


@pytest.mark.usefixtures("dead_resolver")
def test_the_archiver_stops_while_kafkas_name_is_asked_for(recorder: Recorder) -> None:
    archiver = recorder.archiver("--bootstrap-servers", f"{DEAD}:9092")
    archiver.await_line(ASKED)
    archiver.await_line("recording to")
    assert archiver.stop() == 0
    assert "stopped; everything recorded is durable" in archiver.log
