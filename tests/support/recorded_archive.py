"""Archives of a night that was recorded once: copies of its files, each with a group and events of its own."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer
from msgspec.structs import replace

from archiver.core.catalog import FileCatalog
from archiver.core.events import Event, FileAdopted, FileRetired
from archiver.kafka.topic_reader import TopicReader
from g3stream.contract.topics import FILES_TOPIC
from tests.support.processes import SECONDS, Recorder, run_archiver


class Archive:
    """A copy of an archive. recorder: the night's, with the archive `archive`. events: its events; None for all."""

    def __init__(self, recorder: Recorder, root: Path, events: Sequence[Event] | None = None) -> None:
        self._recorder = recorder
        self.servers = recorder.servers
        self.root = shutil.copytree(recorder.data(), root)
        self._name = f"copy-{secrets.token_hex(4)}"
        self.group = f"{recorder.stream}.{self._name}"
        identity = root / ".archiver" / "archive.identity"
        identity.write_text(f"{identity.read_text().split()[0]} {self.group}\n")
        producer = Producer({"bootstrap.servers": recorder.servers})
        for event in events_of(recorder, f"{recorder.stream}.archive") if events is None else events:
            event = replace(event, group=self.group)
            producer.produce(FILES_TOPIC, msgspec.json.encode(event), event.key.encode(), partition=0)
        assert producer.flush(SECONDS) == 0

    def command(self, name: str, *arguments: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run one of archiver's commands on the archive; return its result."""
        where = [] if name == "files" else ["--data-dir", str(self.root)]
        whose = ["--group", self.group]
        return run_archiver(
            self._recorder.servers, name, *where, *whose, *arguments, seconds=4 * SECONDS, stdin=stdin
        )

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run `archiver verify --json`; return its exit code and its report."""
        done = self.command("verify", "--json", *arguments)
        return done.returncode, json.loads(done.stdout)

    def faults(self, *arguments: str) -> list[tuple[str, str]]:
        """Return the findings of `archiver verify`, as faults and paths."""
        _, report = self.verify(*arguments)
        return [(it["fault"], it["path"]) for it in report["findings"]]

    @property
    def files(self) -> list[str]:
        """The .g3 files in the directories of recorded files."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.glob("[0-9]*/*/*.g3"))

    @property
    def catalog(self) -> FileCatalog:
        """The catalog of its events."""
        return FileCatalog.from_events(events_of(self._recorder, self.group))

    @property
    def operator_events(self) -> list[FileRetired | FileAdopted]:
        """The events by operators' commands, in order."""
        return [
            event for event in events_of(self._recorder, self.group) if isinstance(event, FileRetired | FileAdopted)
        ]


def events_of(recorder: Recorder, group: str) -> list[Event]:
    """Return all events of a group's archive."""
    events = TopicReader({"bootstrap.servers": recorder.servers}, group).events()
    return [event for event in events if not isinstance(event, Exception)]


def clean_up(root: Path, paths: Sequence[str]) -> None:
    """Delete files as an observatory's jobs do: the files they know, SHA256SUMS, and empty directories."""
    directories = {(root / path).parent for path in paths}
    for path in paths:
        (root / path).unlink()
    for directory in directories:
        if not list(directory.glob("*.g3")):
            (directory / "SHA256SUMS").unlink(missing_ok=True)
            directory.rmdir()
            if not list(directory.parent.iterdir()):
                directory.parent.rmdir()
