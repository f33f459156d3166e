"""Signals in bursts, SIGTERM and SIGINT mixed, at any time: each program stops in order, exit code 0."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.processes import Program, RawSender, Recorder, flow, scan

STARTS = 10
"""With handlers that set an event themselves, one ingest in two hung after such a burst."""


def burst(program: Program, dice: random.Random) -> None:
    """Send some hundred signals within milliseconds."""
    for _ in range(300):
        program.send(dice.choice([signal.SIGTERM, signal.SIGINT]))
        if dice.random() < 0.1:
            time.sleep(dice.random() * 0.002)


def stop_with_bursts(start: Callable[[], Program], ready: str, dice: random.Random) -> None:
    for _ in range(STARTS):
        program = start()
        program.await_line(ready)
        time.sleep(dice.random() * 0.2)  # anywhere in what it does then
        burst(program, dice)
        assert program.exit_code() == 0, program.log


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["one stream", "several streams"])
def test_bursts_of_signals_stop_ingest(
    kafka: str, stream: str, tmp_path: Path, dice: random.Random, several: bool
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        (tmp_path / "streams.toml").write_text(
            f'[[stream]]\nname = "{stream}"\naddress = "127.0.0.1"\nport = {sender.port}\n'
        )
        how = ["--streams", str(tmp_path / "streams.toml"), "--spool-dir", str(tmp_path / "spool")]

        def start() -> Program:
            return recorder.start("ingest", *how) if several else recorder.ingest(sender.port)

        stop_with_bursts(start, "to Kafka at", dice)


@pytest.mark.slow
def test_bursts_of_signals_stop_the_archiver_and_what_it_had_is_recorded(
    kafka: str, stream: str, tmp_path: Path, dice: random.Random
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest = recorder.ingest(sender.port, "--timeout", "600")  # nothing comes while archivers start and stop
        with sender.accept() as connection:
            connection.sendall(scan(1))
            archiver = recorder.archiver()
            archiver.await_line(": opened ")
            burst(archiver, dice)
            assert archiver.exit_code() == 0, archiver.log
            stop_with_bursts(recorder.archiver, "recording to", dice)
            connection.sendall(scan(2) + flow(2))
            archiver = recorder.archiver()
            archiver.await_line(r"finished .* \(end\)")
        burst(archiver, dice)
        assert archiver.exit_code() == 0, archiver.log
        burst(ingest, dice)
        assert ingest.exit_code() == 0, ingest.log
    assert [file.read_bytes() for file in recorder.files()] == [scan(1) + scan(2)]
