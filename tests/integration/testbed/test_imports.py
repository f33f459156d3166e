"""Neither program, nor any command, waits at its start for what it doesn't need."""

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from archiver.__main__ import COMMANDS
from tests.support.processes import RawSender, Recorder, flow, scan

_IMPORTED = re.compile(r"import time: +\d+ \| +\d+ \| +(\S+)")
"""A line of `python -X importtime`."""

KAFKA = {"confluent_kafka", "asyncio", "ssl", "msgspec", "lmdb"}
"""What talking to Kafka, and the state kept there, take."""
SIMULATOR = {"spt3g", "numpy"}
OF_SOME = {"rich", "prometheus_client", "h11"}
"""Progress bars, and what --http takes."""


@pytest.fixture(scope="module")
def always() -> set[str]:
    """What this Python imports, whatever it runs."""
    return run("-c", "pass")


def run(*arguments: str, code: int = 0) -> set[str]:
    """What a Python imports until it ends so."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return imported(done.stderr.splitlines())


def imported(log: Iterable[str]) -> set[str]:
    """Of modules, the packages; importlib.metadata, which takes longer than most of them, by its whole name."""
    names = [match[1] for line in log if (match := _IMPORTED.match(line))]
    assert names
    return {name if name == "importlib.metadata" else name.partition(".")[0] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["ingest", "archiver", *(f"archiver {name}" for name in COMMANDS)])
@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("--wat", 2)])
def test_help_and_wrong_usage_wait_for_no_kafka(command: str, argument: str, code: int, always: set[str]) -> None:
    found = run("-m", *command.split(), argument, code=code)
    assert command.split()[0] in found
    assert not (found - always) & {*KAFKA, *SIMULATOR, *OF_SOME, "importlib.metadata"}


def test_a_recorder_that_records_has_nothing_for_progress_bars_http_or_frames_of_its_own(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, always: set[str]
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    with RawSender() as sender:
        ingest, archiver = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as client:
            client.sendall(flow(1) + scan(1) + scan(2) + flow(2))
            archiver.await_line(r"finished .*\.g3")
        libraries = {program: Path(f"/proc/{program.pid}/maps").read_text() for program in (ingest, archiver)}
    for program, mapped in libraries.items():
        assert "confluent_kafka" in mapped
        assert "spt3g" not in mapped
        found = imported(line for _, line in program.lines)
        assert {program.name, "confluent_kafka"} <= found
        assert not (found - always) & {*SIMULATOR, *OF_SOME}  # importlib.metadata: versions are reported
