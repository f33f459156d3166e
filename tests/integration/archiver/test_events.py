"""Every event on g3.files is of the committed JSON Schema, and a duplicate can be distinguished from two."""

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from archiver.core.events import Event, RecordsLost
from archiver.kafka.publication import EventPublisher
from tests.support.archives import published_events
from tests.support.commands import archiver
from tests.support.processes import RawSender, Recorder, eventually, flow, scan

ROOT = Path(__file__).parents[3]
STOPPED_AT = str(ROOT / "tests" / "support" / "injection" / "stopped_at.py")
SCHEMA = jsonschema.Draft202012Validator(
    json.loads((ROOT / "docs" / "reference" / "g3.files.schema.json").read_text())
)


def events(recorder: Recorder) -> list[tuple[str, dict[str, Any]]]:
    """What the archive has published: keys and values, each of the schema."""
    ours = published_events(recorder)
    for key, value in ours:
        SCHEMA.validate(value)
        assert key.startswith(f"{value['group']}/{recorder.stream}/")
    return ours


def test_an_archiver_killed_once_it_has_told_of_a_file_tells_the_same_again(recorder: Recorder) -> None:
    recorder.create_topic()
    data = ["--data-dir", str(recorder.data()), "--group", f"{recorder.stream}.archive", "--stream", recorder.stream]
    injected = ["kill", "after", "flush", "--since", "produce g3.files .*_000"]
    with RawSender() as sender:
        recorder.ingest(sender.port)
        killed = recorder.start(STOPPED_AT, *injected, "--", *data, "--carry", "Scan", "--md5")
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0, session_id=1) + scan(2, session_id=1) + flow(2))
            assert killed.exit_code() == -signal.SIGKILL
            (first,) = events(recorder)
            # Without --md5: it publishes what the killed one had computed.
            recorder.archiver("--carry", "Scan").await_line(r"finished .* \(end\)")
    assert events(recorder) == [first, first]
    key, value = first
    (file,) = recorder.files()
    assert key == f"{value['group']}/{recorder.stream}/{file.relative_to(recorder.data())}"
    assert (value["number"], value["missing"], value["bytes"], value["why"]) == (1, 1, file.stat().st_size, "end")
    assert value["md5"] == hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
    assert (value["first"]["seq"] + 1, value["closing"]["kind"]) == (value["last"]["seq"], "end")
    group = ("--group", f"{recorder.stream}.archive")
    (acquisition,) = archiver(recorder, "files", "--json", *group).stdout.splitlines()
    assert len(json.loads(acquisition)["files"]) == 1, "published twice, it is one file"


def test_files_losses_and_what_is_salvaged_are_told_as_the_schema_says(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest, recording = recorder.ingest(sender.port), recorder.archiver("--time-per-file", "1")
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + flow(2) + flow(1) + scan(1))
            recording.await_line("opened", count=2)
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            recording.kill()
            ingest.kill()
        for file in (recorder.directory / "spool").rglob("*"):
            if file.is_file():
                file.unlink()
        recorder.recreate_topic()
        recorder.ingest(sender.port)
        recording = recorder.archiver("--time-per-file", "1")
        recording.await_line("published the 1 frames that could be salvaged,")
        with sender.accept() as connection:
            connection.sendall(scan(2) + flow(2))
            recording.await_line(r"finished .* \(end\)")
            eventually(lambda: len(events(recorder)) >= 4, "the loss published")
    kinds = [value["event"] for _, value in events(recorder)]
    assert sorted(set(kinds)) == ["file", "loss", "salvaged"]
    assert kinds.count("file") == 2
    group = ("--group", f"{recorder.stream}.archive")
    table = archiver(recorder, "files", *group).stdout
    for _, value in events(recorder):
        assert str(value.get("path", value.get("what"))) in table
    assert archiver(recorder, "files", *group, "--since", "-2h").stdout == table


def test_who_only_looks_on_at_events_cannot_keep_them_from_being_told(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder.create_topic()
    recorder.archiver().await_line(f"recording {recorder.stream}")  # by then there is a topic g3.files
    group = f"{recorder.stream}.archive"
    event = RecordsLost(group, recorder.stream, 1, "one", 7, None, 0, "host")

    def fails(_: Event) -> None:
        raise TypeError("nobody expected this")

    EventPublisher({"bootstrap.servers": recorder.servers}, fails).publish(event)
    assert [key for key, _ in events(recorder)] == [event.key]
    assert "can't be counted or shown" in caplog.text
