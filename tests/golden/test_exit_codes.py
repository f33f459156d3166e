"""The exit codes of each program and command, on which systemd units, scripts and monitoring depend.

data/exit-codes.txt has them; new ones are added there by hand.
"""

import fcntl
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Producer

from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port
from tests.support.archives import Source
from tests.support.processes import SECONDS, Program, RawSender, Recorder
from tests.support.recorded_archive import Archive

DATA = Path(__file__).with_name("data") / "exit-codes.txt"
_LINE = re.compile(r"(\d+) +(\S.*)")
_SIGNALLED = re.compile(r"(SIG\w+) /(.*?)/ (.*)")
CLOSED, UNREAD = " >&-", " | :"
_SECTION = re.compile(r"\[(.*)\]")


def section(name: str) -> list[tuple[str, int]]:
    """Return the lines of a section of the data: the command line and its exit code."""
    current, found = "", []
    for line in DATA.read_text().splitlines():
        if match := _SECTION.fullmatch(line):
            current = match[1]
        elif current == name and (match := _LINE.fullmatch(line)):
            found.append((match[2], int(match[1])))
    assert found
    return found


class Situation:
    """The environment of the commands of a section. names: replacements for {…}."""

    def __init__(self, servers: str, names: dict[str, str]) -> None:
        self._servers = servers
        self._names = names

    def command(self, line: str) -> tuple[list[str], dict[str, str]]:
        """Return a line's program with its arguments, and its environment."""
        words = [word.format(**self._names) for word in shlex.split(line)]
        given = [word.split("=", 1) for word in words if re.fullmatch("[A-Z_]+=.*", word)]
        ours = ("INGEST_", "ARCHIVER_", "LOGLEVEL")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        environment |= {"KAFKA_BOOTSTRAP_SERVERS": self._servers, **dict(given)}
        return [sys.executable, "-m", *words[len(given) :]], environment

    def exit_code(self, line: str) -> int:
        """Run a line. Returns its exit code. `>&-`: with stdout closed; `| :`: into a pipe without a reader."""
        command, environment = self.command(line.removesuffix(CLOSED).removesuffix(UNREAD))
        if line.endswith(CLOSED):
            command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
        output = subprocess.DEVNULL
        if line.endswith(UNREAD):
            reader, output = os.pipe()
            os.close(reader)
        done = subprocess.run(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=4 * SECONDS,
            check=False,
        )
        if output != subprocess.DEVNULL:
            os.close(output)
        print(f"$ {line}\n{done.stderr}exit code {done.returncode}")
        assert "Traceback" not in done.stderr
        return done.returncode


@pytest.fixture
def names(tmp_path: Path, stream: str) -> Iterator[dict[str, str]]:
    """Paths of files and directories, and ports."""
    directory, file = tmp_path / "dir", tmp_path / "file"
    (directory / "locked").mkdir(parents=True)
    file.write_text("text\n")
    (tmp_path / "refused").write_text("compression.type=none of any\n")
    here, other = RawSender(), RawSender()
    (tmp_path / "streams").write_text(f'[[stream]]\nname = "{stream}-s"\nport = {free_port()}\n')
    (tmp_path / "one_down").write_text(f'[[stream]]\nname = "{stream}-s"\nlisten = {here.port}\n')
    with here, other, (directory / "locked" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield {
            "stream": stream,
            "dir": str(directory),
            "file": str(file),
            "nothing": str(tmp_path / "nothing"),
            "refused": str(tmp_path / "refused"),
            "streams": str(tmp_path / "streams"),
            "one_down": str(tmp_path / "one_down"),
            "spools": str(tmp_path / "spools"),
            "taken": str(here.port),
            "nowhere": f"127.0.0.1:{free_port()}",
        }


@pytest.mark.slow
def test_without_kafka(names: dict[str, str]) -> None:
    situation = Situation(names["nowhere"], names)
    pinned = section("without Kafka")
    with ThreadPoolExecutor(12) as pool:  # commands that query Kafka wait for it for 10 s
        found = pool.map(situation.exit_code, [line for line, _ in pinned])
    assert list(zip([line for line, _ in pinned], found, strict=True)) == pinned


@pytest.mark.slow
def test_of_an_archive(kafka: str, recorder: Recorder, names: dict[str, str], tmp_path: Path) -> None:
    # The records are years old, so that their ingest isn't taken for running; retention must not delete them.
    recorder.create_topic(config={"retention.ms": "-1"})
    source = Source(kafka, recorder.stream, epochs=0)
    source.now = 1_546_344_000_000
    archiver = recorder.archiver()
    for _ in range(2):
        source.start()
        source.scans(3)
        source.end()
    source.start()
    source.scans(3)
    archiver.await_line(r"finished .* \(end\)", count=2)
    assert archiver.stop() == 0
    copy = Archive(recorder, tmp_path / "copy")
    missing = copy.root / copy.files[0]
    missing.unlink()
    compacted, foreign = f"{recorder.stream}-c", f"{recorder.stream}-f"
    recorder.create_topic(compacted, config={"cleanup.policy": "compact"})
    recorder.create_topic(foreign)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(frames_topic(foreign), b"of somebody", partition=0)
    assert producer.flush(SECONDS) == 0
    names |= {
        "data": str(recorder.data()),
        "group": f"{recorder.stream}.archive",
        "copy": str(copy.root),
        "copied": copy.group,
        "missing": str(missing),
        "rebuilt": str(tmp_path / "rebuilt"),
        "foreign": foreign,
        "compacted": compacted,
    }
    situation = Situation(kafka, names)
    pinned = section("of an archive")
    assert [(line, situation.exit_code(line)) for line, _ in pinned] == pinned


@pytest.mark.parametrize(("line", "code"), section("stopped"))
def test_stopped(recorder: Recorder, names: dict[str, str], line: str, code: int) -> None:
    match = _SIGNALLED.fullmatch(line)
    assert match
    recorder.create_topic()
    command, _ = Situation(recorder.servers, names).command(match[3])
    program: Program = recorder.start(*command[2:])
    program.await_line(match[2])
    assert program.stop(signal.Signals[match[1]]) == code
