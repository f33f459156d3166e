"""Recording, HTTP and stopping never wait for the log's reader: a pager, a log driver, a full disk."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.child_process import free_port, start_child_process
from tests.support.injection.chatty import KEPT_LINES
from tests.support.processes import SECONDS, Program, RawSender, Recorder, eventually, flow, get, scan

CHATTY = str(Path(__file__).parents[2] / "support" / "injection" / "chatty.py")
PAGE = 4096
ACQUISITIONS = 3 * KEPT_LINES
"""Each gives some lines in both logs: more than a page, and more than are kept."""


class Unread:
    """A recorder whose two programs log much; and what is sent to it."""

    def __init__(self, recorder: Recorder, sender: RawSender) -> None:
        recorder.create_topic()
        self.recorder = recorder
        self.ports = free_port(), free_port()
        spool = ("--stream", recorder.stream, "--spool-dir", str(recorder.directory / "spool"))
        source = ("--address", "127.0.0.1", "--port", str(sender.port), "--timeout", "60")
        archive = ("--data-dir", str(recorder.data()), "--group", f"{recorder.stream}.archive")
        http = [("--http", str(port)) for port in self.ports]
        self.ingest = recorder.start(CHATTY, "ingest", *spool, *source, *http[0])
        of_stream = ("--stream", recorder.stream, "--gap", "60")
        self.archiver = recorder.start(CHATTY, "archiver", *archive, *of_stream, *http[1])
        self.programs = self.ingest, self.archiver
        self.frames: list[bytes] = []

    def send(self, connection: socket.socket, acquisitions: int) -> None:
        """That many, of a frame each, and wait until all are files."""
        for _ in range(acquisitions):
            self.frames.append(scan(len(self.frames), size=80))
            connection.sendall(flow(1) + self.frames[-1] + flow(2))
        eventually(lambda: len(self.recorder.files()) == len(self.frames), "every acquisition is a file", 120)

    def recorded(self) -> list[bytes]:
        """What each file holds; their names sort as they were sent, within a second by number."""
        return sorted(file.read_bytes() for file in self.recorder.files())


def await_health(port: int, what: str) -> None:
    eventually(lambda: what in get(port, "/healthz")[1], f"/healthz says {what}", 4 * SECONDS)


def dropped(program: Program) -> list[int]:
    lines = [re.search(r"… (\d+) lines of the log were dropped here", line) for _, line in program.lines]
    return [int(match[1]) for match in lines if match]


@pytest.mark.slow
def test_logs_that_nobody_reads_hold_up_neither_recording_nor_answers_nor_a_stop(
    kafka: str, stream: str, tmp_path: Path
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        unread = Unread(recorder, sender)
        with sender.accept() as connection:
            unread.send(connection, 1)
            for program in unread.programs:
                program.leave_log_unread(PAGE)
            unread.send(connection, ACQUISITIONS)
            for port, name in zip(unread.ports, ("ingest", "archiver"), strict=True):
                # The thread that reads may have taken one more pipe's worth meanwhile: then it takes more to fill it.
                while "the log hasn't been written for" not in get(port, "/healthz")[1]:
                    unread.send(connection, 1)
                assert get(port, "/healthz")[0] == 503
                assert f"g3_{name}_log_dropped_lines_total 0.0" not in get(port, "/metrics")[1]
            unread.send(connection, 2)
            for program in unread.programs:
                program.read_log()
            for program, port in zip(unread.programs, unread.ports, strict=True):
                program.await_line("lines of the log were dropped here")
                await_health(port, "ok")
            last = recorder.files()[-1].name
            unread.archiver.await_line(f"finished .*{last}")  # the newest lines were kept
            for program in unread.programs:
                lines = [at for at in (re.match(r"(\S+Z) ", line) for _, line in program.lines) if at]
                stamps = [at[1] for at in lines if "dropped here" not in at.string]
                assert stamps == sorted(stamps), "their order is kept"

            # Once more, and they are stopped while nobody reads.
            for program in unread.programs:
                program.leave_log_unread(PAGE)
            unread.send(connection, ACQUISITIONS)
        for program in unread.programs:
            assert program.stop() == 0, program.log
    assert all(dropped(program) for program in unread.programs)
    assert unread.recorded() == sorted(unread.frames)


def test_logs_whose_reader_is_gone_and_logs_on_a_full_disk(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        data, spool = recorder.data(), tmp_path / "spool"
        where = ("--bootstrap-servers", kafka)
        archiver_arguments = ("--data-dir", str(data), "--group", f"{stream}.archive", "--stream", stream, *where)
        ingest_arguments = ("--stream", stream, "--spool-dir", str(spool), "--address", "127.0.0.1")
        port = free_port()
        reader, pipe = os.pipe()
        with os.fdopen(pipe, "wb") as gone, Path("/dev/full").open("wb") as full:
            archiver = start_child_process([sys.executable, "-m", "archiver", *archiver_arguments], stderr=gone)
            ingest = start_child_process(
                [
                    *(sys.executable, "-m", "ingest", *ingest_arguments, *where),
                    *("--port", str(sender.port), "--http", str(port)),
                ],
                stderr=full,
            )
        os.close(reader)
        frames = [scan(number) for number in range(3)]
        with sender.accept() as connection:
            for frame in frames:
                connection.sendall(flow(1) + frame + flow(2))
            eventually(lambda: len(recorder.files()) == len(frames), "all are files")
            eventually(
                lambda: "stderr: No space left on device" in get(port, "/healthz")[1], "health reports it", seconds=60
            )
        for program in (ingest, archiver):
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) == 0
        assert sorted(file.read_bytes() for file in recorder.files()) == frames


@pytest.mark.parametrize("closed", ["2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_closed_descriptors_are_not_taken_for_files(kafka: str, stream: str, tmp_path: Path, closed: str) -> None:
    """What a library prints to stderr would be in the middle of a file that happens to have that number."""
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        run = f'exec "$0" -m "$@" {closed}'
        shell = ["/bin/sh", "-c", run, sys.executable]
        archive = ("--data-dir", str(recorder.data()), "--group", f"{stream}.archive", "--stream", stream)
        spool = ("--stream", stream, "--spool-dir", str(tmp_path / "spool"))
        source = ("--address", "127.0.0.1", "--port", str(sender.port))
        env = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka}
        programs = [
            start_child_process([*shell, "ingest", *spool, *source], env=env),
            start_child_process([*shell, "archiver", *archive], env=env),
        ]
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(1))
            eventually(lambda: any(recorder.data().glob(".archiver/*/*")), "it is recorded")
            for program in programs:
                fds = closed.count("&-")
                numbers = {1: (2,), 2: (1, 2), 3: (0, 1, 2)}[fds]
                assert {str(Path(f"/proc/{program.pid}/fd/{fd}").readlink()) for fd in numbers} == {"/dev/null"}
            connection.sendall(flow(2))
            eventually(lambda: len(recorder.files()) == 1, "it is a file")
        for program in programs:
            program.send_signal(signal.SIGTERM)
            assert program.wait(30) == 0
        assert recorder.files()[0].read_bytes() == scan(1)


def test_an_unexpected_error_is_in_the_log_and_in_the_exit_code(tmp_path: Path) -> None:
    """Through the queue, too, whatever raised it, and last."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", _CRASH, "ingest", "--stream", "x", "--spool-dir", str(tmp_path)),
            *("--bootstrap-servers", "127.0.0.1:1"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    lines = [line.strip() for line in done.stderr.splitlines()]
    assert "CRITICAL the program ends with an unexpected error" in done.stderr
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert "the thread helper ends with an unexpected error" in done.stderr
    assert "KeyError: 'in a thread'" in lines
    assert "printed by a library" in lines


_CRASH = """
import sys, threading
import ingest.service
from ingest.__main__ import main
def fail():
    raise KeyError("in a thread")
def crash(*_):
    print("printed by a library", file=sys.stderr)
    helper = threading.Thread(target=fail, name="helper")
    helper.start()
    helper.join()
    1 / 0
ingest.service.kafka_client_config = crash
sys.exit(main(sys.argv[2:]))
"""
