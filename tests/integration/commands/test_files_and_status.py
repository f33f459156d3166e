"""What an operator sees at 3 a.m.: which files there are, what is missing, and how each stream is now."""

import json
import re
import time
from concurrent.futures import wait
from itertools import pairwise
from typing import Any

import pytest
from confluent_kafka import Producer

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from tests.support.commands import archiver
from tests.support.injection.stepped_clock import HostClock
from tests.support.processes import SECONDS, RawSender, Recorder, admin_client, eventually, flow, scan

SCAN = ord("S")
SECOND = "--time-per-file", "1"


def group(recorder: Recorder, archive: str = "archive") -> tuple[str, str]:
    return "--group", f"{recorder.stream}.{archive}"


def listed(recorder: Recorder, command: str, *arguments: str, code: int | None = 0) -> list[dict[str, Any]]:
    """What a command says with --json. code: its exit code; None for any."""
    done = archiver(recorder, command, "--json", *group(recorder), "--stream", recorder.stream, *arguments)
    assert (done.returncode if code is not None else code, done.stderr) == (code, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def status(recorder: Recorder) -> dict[str, Any]:
    """The stream's."""
    (found,) = [line for line in listed(recorder, "status", code=None) if line["kind"] == "stream"]
    return found


@pytest.mark.slow
def test_files_and_status_tell_what_was_recorded_and_how_it_is_now(recorder: Recorder) -> None:
    unknown = archiver(recorder, "status", "--stream", recorder.stream)
    assert unknown.returncode == 1
    assert f"no ingest for {recorder.stream}" in unknown.stdout
    recorder.create_topic()
    assert status(recorder)["problem"] == "not recorded by this group"
    nothing = archiver(recorder, "files", *group(recorder))
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "has finished no file" in nothing.stderr
    before = time.time()
    clock = HostClock(recorder.directory)
    with RawSender() as sender:
        recorder.ingest(sender.port, clock=clock)
        recording = recorder.archiver(*SECOND)
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0, session_id=7) + scan(3, session_id=7))
            recording.await_line("opened")
            recorder.await_frames(2)
            clock.step(1.1)  # the next record belongs into the next file
            connection.sendall(scan(4, session_id=7) + flow(2))
            recording.await_line(r"finished .* \(end\)")
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            eventually(lambda: status(recorder)["lag"] <= 3, "it keeps up, but for one quiet each second")
            idle = status(recorder)
            assert (idle["problem"], idle["file"]) == (None, None)
            assert idle["fact"] in ("end", "quiet")
            connection.sendall(flow(1) + scan(5, session_id=7))
            opened = recording.await_line(r"opened (\S+)", count=3)[1]
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            recording.kill()
            more = scan(6, session_id=7)
            connection.sendall(more)
            eventually(lambda: more in [value for _, _, value in recorder.records()], "a frame more")
            behind = status(recorder)
            assert (behind["file"], behind["file_bytes"]) == (opened, len(scan(5, session_id=7)))
            assert behind["lag"] >= 1
            assert behind["lag_since"] <= behind["last_record"]
            assert (
                before
                < time.mktime(time.strptime(behind["last_record"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + 1
            )
            shown = archiver(recorder, "status", *group(recorder), "--stream", recorder.stream).stdout
            assert opened in shown
            assert re.search(rf"  \d+ +[0-9.]+ k?B  {opened}$", shown, re.MULTILINE), shown
    (acquisition,) = listed(recorder, "files")
    assert [file["path"] for file in acquisition["files"]] == [
        str(path.relative_to(recorder.data())) for path in recorder.files()
    ]
    assert [(file["frames"], file["missing"], file["why"]) for file in acquisition["files"]] == [
        (2, 2, "time"),
        (1, 0, "end"),
    ]
    assert acquisition["bytes"] == sum(path.stat().st_size for path in recorder.files())
    assert (acquisition["over"], acquisition["lost_records"]) == (True, 0)
    assert listed(recorder, "files", "--until", "-2h") == []
    assert listed(recorder, "files", "--since", "-2h") == [acquisition]
    table = archiver(recorder, "files", *group(recorder)).stdout.splitlines()
    assert (
        table[-1]
        == f"1 acquisition, 2 files, {acquisition['bytes'] / 1000:.1f} kB, 3 frames, 2 missing, nothing lost"
    )
    assert len(table) == 5, "the head, the acquisition, two files, the sums"


def files_listed(recorder: Recorder) -> list[dict[str, Any]]:
    """The files of all acquisitions."""
    return [file for found in listed(recorder, "files") for file in found.get("files", [])]


def test_a_loss_is_shown_with_its_file_and_no_group_is_made_by_looking(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest, recording = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0))
            recording.await_line("opened")
            ingest.kill()  # before it sees that the connection is closed
        for file in (recorder.directory / "spool").rglob("*"):
            if file.is_file():
                file.unlink()
        recorder.ingest(sender.port)
        recording.await_line("LOST")
        # Until both are published, either stands alone.
        eventually(lambda: any(file["losses"] for file in files_listed(recorder)), "the file and its loss listed")
    (acquisition,) = listed(recorder, "files")
    (file,) = acquisition["files"]
    (loss,) = file["losses"]
    assert "the last records of the one before may be lost" in loss["what"]
    assert (loss["records"], acquisition["lost_records"]) == (None, None)
    table = archiver(recorder, "files", *group(recorder)).stdout.splitlines()
    assert "LOST" in table[2]
    assert loss["what"] in table[2]
    assert table[-1].endswith("LOST: ? records, 1 time")
    archiver(recorder, "status", "--group", f"{recorder.stream}.nobody")
    admin = admin_client(recorder.servers)
    groups = [found.group_id for found in admin.list_consumer_groups().result().valid]
    assert f"{recorder.stream}.nobody" not in groups


def test_forty_streams_are_shown_at_once(recorder: Recorder) -> None:
    """With 4 s of frames each since the last state record: they are read back together."""
    streams = [f"{recorder.stream}-{n}" for n in range(40)]
    for stream in streams:
        recorder.create_topic(stream)
    now = round(time.time() * 1000)
    producer = Producer({"bootstrap.servers": recorder.servers, "linger.ms": 5})
    for stream in streams:
        for seq in range(400):
            label = RecordHeaders(
                Kind.FRAME if seq else Kind.CONNECTED, "a" * 16, seq, SCAN, why=None if seq else "smurf:4536"
            )
            headers: list[tuple[str, str | bytes | None]] = [*label.to_kafka()]
            at = now - 4000 + 10 * seq
            producer.produce(frames_topic(stream), bytes(2000), headers=headers, partition=0, timestamp=at)
        producer.poll(0)
    assert producer.flush(SECONDS) == 0
    try:
        began_at = [time.monotonic()]
        for shown in (streams[:1], streams):
            named = [word for stream in shown for word in ("--stream", stream)]
            done = archiver(recorder, "status", "--group", f"{recorder.stream}.none", *named)
            began_at.append(time.monotonic())
    finally:
        admin = admin_client(recorder.servers)
        wait([*admin.delete_topics([frames_topic(stream) for stream in streams]).values()])
    lines = done.stdout.splitlines()
    assert lines[:2] == [
        "2 problems:",
        f"- no archiver of the group {recorder.stream}.none runs: nothing is recorded, frames wait in Kafka",
    ]
    assert lines[2].endswith(" and 34 more: not recorded by this group")
    assert sum("  not archived" in line for line in lines) == 40
    one_s, all_s = (end - begin for begin, end in pairwise(began_at))
    print(f"one: {one_s:.2f} s, 40: {all_s:.2f} s")
    assert all_s < 10 * one_s, "not one after the other"
