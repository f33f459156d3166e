"""`archiver --on-file`: the hook is run for each event, in order, until it succeeds; recording never waits for it."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from testbed.child_process import free_port
from tests.support.archives import Source, quick_session
from tests.support.injection.hooks import Hook
from tests.support.injection.proxy import FarBroker
from tests.support.processes import Program, Recorder, eventually, get, run_archiver


@pytest.fixture
def hook(tmp_path: Path) -> Hook:
    return Hook(tmp_path)


@pytest.fixture
def source(recorder: Recorder) -> Source:
    recorder.create_topic()
    return in_a_second(Source(recorder.servers, recorder.stream, epochs=0))


def in_a_second(source: Source) -> Source:
    """Start at a full second, so that all acquisitions of a test are in that one, numbered."""
    source.now -= source.now % 1000
    return source


def record(source: Source, archiver: Program, count: int, of_them: int = 1) -> None:
    """Send an acquisition for each, and wait until that many are finished in all."""
    for _ in range(of_them):
        source.start()
        source.scans(3)
        source.end()
    archiver.await_line(r"finished .* \(end\)", count=count)


def metric(port: int, name: str, sink: str = "on-file") -> float:
    """Return a sample of /metrics, of that sink."""
    (line,) = [line for line in get(port, "/metrics")[1].splitlines() if line.startswith(f'{name}{{sink="{sink}"}} ')]
    return float(line.rpartition(" ")[2])


def test_a_command_that_fails_is_run_again_until_it_succeeds_and_the_next_events_wait(
    recorder: Recorder, source: Source, hook: Hook
) -> None:
    hook.ask("fail")
    archiver = recorder.archiver(*hook.flags, "--http", str(port := free_port()))
    record(source, archiver, 3, of_them=3)
    archiver.await_line("on-file: .*_000.g3: attempt 2 failed: exit code 3: the other side is full; trying again in")
    archiver.await_line(r"on-file: output: .*_000.g3 \\x1b\[31m")
    eventually(lambda: metric(port, "g3_archiver_sink_backlog_events") == 3, "three events wait")
    status, text = get(port, "/healthz")
    assert (status, text.splitlines()[0]) == (200, "ok"), "recording is well"
    assert "warning: on-file: 3 events waiting" in text
    eventually(lambda: metric(port, "g3_archiver_sink_failures_total") >= 2, "two failures")
    assert metric(port, "g3_archiver_sink_active") == 1
    assert set(hook.paths("begin")) == {"_000.g3"}, "the next ones wait"
    hook.ask_no_more("fail")
    eventually(lambda: hook.paths() == ["_000.g3", "_001.g3", "_002.g3"], "all done, in order")
    eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "no warning any more")
    eventually(lambda: metric(port, "g3_archiver_sink_backlog_events") == 0, "nothing waits")
    assert metric(port, "g3_archiver_sink_delivered_total") == 3
    assert archiver.stop() == 0


def test_what_a_command_gets_of_an_event(recorder: Recorder, source: Source, hook: Hook) -> None:
    archiver = recorder.archiver(*hook.flags)
    source.start()
    source.scans(2)
    source.lose(1)
    source.scans(2)
    source.end()
    eventually(lambda: len([run for run in hook.runs if run["what"] == "end"]) == 2, "a loss and a file")
    loss, file = [run for run in hook.runs if run["what"] == "begin"]
    group, (path,) = f"{recorder.stream}.archive", recorder.files()
    assert (loss["event"]["event"], loss["event"]["records"]) == ("loss", 1)
    assert loss["env"] == {
        "G3_EVENT": "loss",
        "G3_KEY": loss["env"]["G3_KEY"],
        "G3_GROUP": group,
        "G3_STREAM": recorder.stream,
        "G3_DATA_DIR": str(recorder.data()),
        "G3_ATTEMPT": "1",
    }
    event = file["event"]
    assert (event["event"], event["frames"]) == ("file", 5)
    assert file["env"] == {
        "G3_EVENT": "file",
        "G3_KEY": f"{group}/{recorder.stream}/{event['path']}",
        "G3_GROUP": group,
        "G3_STREAM": recorder.stream,
        "G3_DATA_DIR": str(recorder.data()),
        "G3_ATTEMPT": "1",
        "G3_PATH": str(path),
        "G3_SHA256": event["sha256"],
        "G3_BYTES": str(path.stat().st_size),
        "G3_FRAMES": "5",
    }
    assert archiver.stop() == 0


def test_a_retired_file_is_handed_over_too(recorder: Recorder, source: Source, hook: Hook) -> None:
    archiver = recorder.archiver(*hook.flags)
    record(source, archiver, 1)
    eventually(lambda: hook.paths() == ["_000.g3"], "the file")
    (path,) = recorder.files()
    path.unlink()
    group, data = ("--group", f"{recorder.stream}.archive"), ("--data-dir", str(recorder.data()))
    done = run_archiver(recorder.servers, "retire", *group, *data, "--reason", "it is at home", str(path))
    assert done.returncode == 0
    eventually(lambda: len(hook.paths()) == 2, "that it is retired")
    assert archiver.stop() == 0
    _, retired = [run for run in hook.runs if run["what"] == "begin"]
    assert (retired["event"]["event"], retired["event"]["reason"]) == ("file_retired", "it is at home")
    assert (retired["env"]["G3_EVENT"], retired["env"]["G3_PATH"]) == ("file_retired", str(path))


def test_an_archiver_killed_once_the_command_has_succeeded_runs_it_again(
    recorder: Recorder, source: Source, hook: Hook
) -> None:
    quick = quick_session(recorder.directory)
    archiver = recorder.archiver(*hook.flags, *quick)
    record(source, archiver, 1)
    eventually(lambda: hook.paths() == ["_000.g3"], "the first one done")
    hook.ask("kill")
    source.start()
    source.scans(3)
    source.end()
    assert archiver.exit_code() == -signal.SIGKILL
    archiver = recorder.archiver(*hook.flags, *quick)
    record(source, archiver, 1)
    eventually(lambda: hook.paths() == ["_000.g3", "_001.g3", "_001.g3", "_002.g3"], "the second one done again")
    assert archiver.stop() == 0


def test_what_was_finished_before_is_not_handed_over_and_what_waits_at_a_stop_is(
    recorder: Recorder, source: Source, hook: Hook
) -> None:
    archiver = recorder.archiver()
    record(source, archiver, 1)
    assert archiver.stop() == 0
    hook.ask("fail")
    archiver = recorder.archiver(*hook.flags)
    record(source, archiver, 2, of_them=2)
    archiver.await_line("on-file: .*_001.g3: attempt 1 failed")
    assert archiver.stop() == 0
    without = recorder.archiver()
    record(source, without, 1)
    assert without.stop() == 0
    hook.ask_no_more("fail")
    archiver = recorder.archiver(*hook.flags)
    eventually(lambda: hook.paths() == ["_001.g3", "_002.g3", "_003.g3"], "all since --on-file was first given")
    assert archiver.stop() == 0


def test_of_two_archivers_one_runs_the_command_and_the_other_takes_over_when_it_dies(
    recorder: Recorder, source: Source, hook: Hook
) -> None:
    quick = quick_session(recorder.directory)
    members = [
        recorder.archiver(*hook.flags, *quick, "--instance-id", f"{recorder.stream}-{name}") for name in ("a", "b")
    ]
    hook.ask("slow", "0.2")
    for _ in range(4):
        source.start()
        source.scans(3)
        source.end()
    eventually(lambda: len(hook.paths()) >= 2, "some done")
    (pid,) = {run["archiver"] for run in hook.runs}
    active, other = sorted(members, key=lambda member: member.pid != pid)
    active.kill()
    for _ in range(2):
        source.start()
        source.scans(3)
        source.end()
    expected = [f"_{number:03d}.g3" for number in range(6)]
    eventually(lambda: hook.paths()[-1:] == expected[-1:], "all done")
    assert list(dict.fromkeys(hook.paths())) == expected, "in order"
    assert len(hook.paths()) <= len(expected) + 1, "one was at most done twice"
    archivers = [run["archiver"] for run in hook.runs if run["archiver"] in (active.pid, other.pid)]
    assert archivers == sorted(archivers, key=lambda it: it != active.pid), "one after the other"
    assert other.stop() == 0


def test_a_command_that_hangs_holds_up_neither_recording_nor_the_stop(
    recorder: Recorder, source: Source, hook: Hook
) -> None:
    hook.ask("hang")
    archiver = recorder.archiver(*hook.flags, "--http", str(port := free_port()))
    record(source, archiver, 1)
    eventually(lambda: hook.paths("hangs") == ["_000.g3"], "it hangs")
    record(source, archiver, 4, of_them=3)
    eventually(lambda: metric(port, "g3_archiver_sink_backlog_events") == 4, "four events wait")
    eventually(lambda: metric(port, "g3_archiver_sink_running_seconds") > 1, "how long it has been running")
    pid = hook.runs[0]["pid"]
    os.kill(pid, 0)
    assert archiver.stop() == 0
    archiver.await_line("stopped; everything recorded is durable and committed")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    hook.ask_no_more("hang")
    archiver = recorder.archiver(*hook.flags)
    eventually(lambda: hook.paths() == [f"_{n:03d}.g3" for n in range(4)], "it is run again, and for the others")
    assert archiver.stop() == 0


def test_a_program_that_is_not_there_is_reported_at_the_start_and_run_once_it_is(
    recorder: Recorder, source: Source, tmp_path: Path
) -> None:
    program = tmp_path / "late"
    archiver = recorder.archiver("--on-file", str(program))
    archiver.await_line(f"WARNING .*on-file: there is no program {program} now")
    record(source, archiver, 1)
    archiver.await_line(f"attempt 1 failed: {program} can't be run: No such file or directory; trying again")
    program.write_text(f'#!/bin/sh\necho "$G3_PATH" > {tmp_path}/done\n')
    program.chmod(0o700)
    archiver.await_line(r"on-file: .*_000.g3 done, at attempt \d+")
    assert (tmp_path / "done").read_text().strip() == str(recorder.files()[0])
    assert archiver.stop() == 0


@pytest.mark.slow
def test_kafka_goes_away_and_comes_back(stream: str, tmp_path: Path, hook: Hook) -> None:
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        recorder.create_topic()
        source = in_a_second(Source(recorder.servers, stream, epochs=0))
        hook.ask("slow", "1")
        archiver = recorder.archiver(*hook.flags)
        record(source, archiver, 2, of_them=2)
        eventually(lambda: hook.paths("begin") == ["_000.g3"], "it is at the first event")
        broker.kill()
        eventually(lambda: hook.paths("end") == ["_000.g3"], "done while Kafka is away")
        broker.start()
        record(source, archiver, 3)
        eventually(lambda: hook.paths()[-1:] == ["_002.g3"], "all done")
        assert list(dict.fromkeys(hook.paths())) == ["_000.g3", "_001.g3", "_002.g3"]
        assert archiver.stop() == 0


class Requests(ThreadingHTTPServer):
    """A server that records what is posted to it, and answers as asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.answers: list[int] = []
        """The status of each answer to come; 204 if none is left."""
        self.posted: list[tuple[str, dict[str, Any]]] = []
        """Target and event."""
        self.may_answer = threading.Event()
        self.may_answer.set()


class _Request(BaseHTTPRequestHandler):
    server: Requests

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        self.server.posted.append((self.path, json.loads(body)))
        self.server.may_answer.wait()
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        if status != 204:
            self.wfile.write(b"not \x1b now")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def requests() -> Iterator[Requests]:
    with Requests() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.may_answer.set()
            server.shutdown()


def test_a_webhook_gets_each_event_until_it_answers_2xx(recorder: Recorder, source: Source) -> None:
    with requests() as server:
        server.answers = [500, 302]
        url = f"http://127.0.0.1:{server.server_port}"
        archiver = recorder.archiver("--on-file", f"{url}/files?token=secret")
        record(source, archiver, 2, of_them=2)
        archiver.await_line(rf"attempt 1 failed: {url}/files answers 500: not \\x1b now; trying again in 1 s")
        archiver.await_line("attempt 2 failed: .* answers 302")
        eventually(lambda: len(server.posted) == 4, "both events taken")
        server.may_answer.clear()
        record(source, archiver, 3)
        eventually(lambda: len(server.posted) == 5, "it doesn't answer")
        assert archiver.stop() == 0
        assert "secret" not in archiver.log
    assert {target for target, _ in server.posted} == {"/files?token=secret"}
    paths = [event["path"][-7:] for _, event in server.posted]
    assert paths == ["_000.g3", "_000.g3", "_000.g3", "_001.g3", "_002.g3"]
