"""`archiver status` when parts of the recorder die, with real processes: what is wrong, and the exit code."""

import itertools
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from msgspec.structs import replace

from g3stream.contract.program_status import OVERDUE_S, ProgramStatus, Report, decode, encode
from g3stream.contract.topics import STATUS_TOPIC
from tests.support.commands import archiver
from tests.support.processes import SECONDS, RawSender, Recorder, eventually, flow, scan, settings_of
from tests.support.terminal import on_terminal, plain_lines


def reports(recorder: Recorder) -> dict[str, Report]:
    """The last report of each program, by key."""
    consumer = Consumer({"bootstrap.servers": recorder.servers, "group.id": "unused", "enable.auto.commit": False})
    try:
        partition = TopicPartition(STATUS_TOPIC, 0, 0)
        first, end = consumer.get_watermark_offsets(partition, SECONDS)
        consumer.assign([TopicPartition(STATUS_TOPIC, 0, first)])
        messages = consumer.consume(end - first, SECONDS)
        return {(m.key() or b"").decode(): decode(m.value() or b"") for m in messages}
    finally:
        consumer.close()


def let_time_pass(recorder: Recorder, key: str) -> None:
    """Make a program's last report older, as if it had been dead for a minute."""
    last = reports(recorder)[key]
    assert isinstance(last, ProgramStatus)
    older = replace(last, time_ms=last.time_ms - 2 * round(OVERDUE_S) * 1000)
    producer = Producer({"bootstrap.servers": recorder.servers})
    producer.produce(STATUS_TOPIC, encode(older), key.encode(), partition=0)
    assert producer.flush(SECONDS) == 0


def status(recorder: Recorder) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of the command, and the objects that it prints with --json."""
    done = archiver(
        recorder, "status", "--json", "--group", f"{recorder.stream}.archive", "--stream", recorder.stream
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def problems(recorder: Recorder) -> str:
    """The sentences of the verdict, which must agree with its exit code."""
    code, objects = status(recorder)
    assert objects[-1]["ok"] is (code == 0)
    return "\n".join(objects[-1]["problems"])


@contextmanager
def sending(connection: socket.socket) -> Iterator[None]:
    """Send frames of an acquisition all the time, until ingest is gone."""
    done = threading.Event()

    def send() -> None:
        connection.sendall(flow(1))
        with suppress(OSError):
            for number in itertools.count():
                if done.wait(0.2):
                    return
                connection.sendall(scan(number))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.slow
def test_what_died_is_said_and_what_was_stopped_is_no_problem(recorder: Recorder) -> None:
    recorder.create_topic()
    stream = recorder.stream
    with RawSender() as sender:
        ingest, recording = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as connection, sending(connection):
            recording.await_line("opened")
            eventually(lambda: problems(recorder) == "", "all is well")
            eventually(lambda: status(recorder)[1][0]["state"] == "recording", "recording")
            # Which streams it records, it reports with its next report, within 10 s.
            eventually(lambda: status(recorder)[1][1]["streams"] == [stream], "its stream")
            _, (found, archiving, verdict) = status(recorder)
            assert found["sender"] == f"127.0.0.1:{sender.port}"
            assert archiving["data_dir"] == str(recorder.data())
            assert found["archiver"] == archiving["instance"]
            assert verdict["kind"] == "verdict"

            recording.kill()
            (instance,) = [key for key in reports(recorder) if key.startswith(f"archiver:{stream}.archive:")]
            let_time_pass(recorder, instance)
            assert "no archiver of the group" in problems(recorder)

            again = recorder.archiver()
            eventually(lambda: problems(recorder) == "", "all is well again")
            ingest.kill()
    let_time_pass(recorder, f"ingest:{stream}")
    assert f"no ingest for {stream} since" in problems(recorder)
    # It waits until the last record is 10 s old: an ingest may be alive.
    eventually(lambda: archiver(recorder, "close", "--stream", stream).returncode == 0, "closed")
    eventually(lambda: problems(recorder) == "", "an operator has closed it")

    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        with sender.accept():
            eventually(lambda: status(recorder)[1][0]["state"] == "idle", "connected")
    eventually(lambda: status(recorder)[1][0]["state"] == "disconnected", "the sender is away")
    assert "no connection to" in problems(recorder)
    assert ingest.stop() == 0
    code, (found, *_) = status(recorder)
    assert (code, found["state"]) == (0, "stopped")
    assert again.stop() == 0
    assert "no archiver of the group" in problems(recorder)
    assert settings_of(recorder.servers, STATUS_TOPIC)["cleanup.policy"] == "compact"


@pytest.mark.slow
def test_info_shows_the_archive_on_one_screen(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        recording = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + flow(2))
            recording.await_line(r"finished .* \(end\)")
            (path,) = recorder.files()
            group = "--group", f"{recorder.stream}.archive"
            verified = archiver(recorder, "verify", *group, "--data-dir", str(recorder.data()))
            assert verified.returncode == 0, verified.stdout
            shown = archiver(recorder, "info", *group).stdout
            assert str(path.relative_to(recorder.data())) in shown
            assert f":{recorder.data()}" in shown
            assert "1 file, " in shown
            assert "nothing is wrong" in shown
            assert all(len(line) <= 160 for line in shown.splitlines())
            for command in ("info", "files", "verify", "status"):
                data = ("--data-dir", str(recorder.data())) if command == "verify" else ()
                servers = {"KAFKA_BOOTSTRAP_SERVERS": recorder.servers}
                _, text = on_terminal(["archiver", command, *group, *data], 80, env=servers)
                assert all(len(line) <= 80 or " " not in line.strip() for line in plain_lines(text)), text
            found = json.loads(archiver(recorder, "info", "--json", *group).stdout)
            assert (found["files"], found["days"], found["retired"]) == (1, 1, 0)
            assert (found["verified"]["files"], found["verified"]["wrong"]) == (1, 0)
            assert [*found["repairable_since"]] == [recorder.stream]
            assert found["directories"][0]["free_bytes"] > 0
    nobody = archiver(recorder, "info", "--group", f"{recorder.stream}.nobody")
    assert "is --group right?" in nobody.stderr


@pytest.mark.parametrize("columns", [80, 200])
def test_on_a_terminal_it_fits_and_has_colour(recorder: Recorder, columns: int) -> None:
    recorder.create_topic()
    servers = {"KAFKA_BOOTSTRAP_SERVERS": recorder.servers}
    arguments = ["archiver", "status", "--stream", recorder.stream, "--group", f"{recorder.stream}.archive"]
    code, text = on_terminal(arguments, columns, env=servers)
    lines = plain_lines(text)
    assert code == 1
    assert lines[0].endswith("problems:")
    assert "\x1b[" in text
    assert all(len(line) <= columns for line in lines)
    _, plain = on_terminal(arguments, columns, env={**servers, "NO_COLOR": "1"})
    assert "\x1b[3" not in plain
