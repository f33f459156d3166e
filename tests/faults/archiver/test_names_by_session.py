"""Names by session, through all that begins a new acquisition: a session's files, numbered, and each frame once."""

import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from spt3g import core

from tests.support.archives import assert_same_tree, disturbed
from tests.support.processes import RawSender, Recorder, eventually, flow, frame, run_archiver, scan

BY_SESSION = ("--name-format", "session", "--carry", "Observation", "--carry", "Wiring")


@dataclass
class Streamer:
    """What a SMuRF streamer sends of a session, and sends again on each connection."""

    session: int = field(default_factory=lambda: int(time.time()) - 5)
    _nums: Iterator[int] = field(default_factory=itertools.count)
    _latest: dict[object, bytes] = field(default_factory=dict)

    def start(self) -> bytes:
        """START, Observation, Wiring."""
        begun = self._flow(1) + self._metadata(core.G3FrameType.Observation, stream_placement="start")
        return begun + self._metadata(core.G3FrameType.Wiring, dump=True)

    def data(self, count: int) -> bytes:
        """Return this many Scan frames."""
        return b"".join(scan(next(self._nums), session_id=self.session) for _ in range(count))

    def end(self) -> bytes:
        """Wiring, Observation, END."""
        wiring = self._metadata(core.G3FrameType.Wiring, dump=False)
        return wiring + self._metadata(core.G3FrameType.Observation, stream_placement="end") + self._flow(2)

    def again(self) -> bytes:
        """What a G3NetworkSender begins a connection with."""
        return b"".join(self._latest.values())

    def another(self) -> "Streamer":
        """Its next session."""
        return Streamer(self.session + 1, _latest=self._latest)

    def _flow(self, value: int) -> bytes:
        self._latest[core.G3FrameType.none] = flow(value)
        return flow(value)

    def _metadata(self, kind: object, **values: object) -> bytes:
        made = frame(kind, session_id=self.session, frame_num=next(self._nums), **values)
        self._latest[kind] = made
        return made


def frames_of(file: Path) -> list[tuple[str, int, int]]:
    """Of each frame: its type, session and number."""
    return [(str(found.type), found["session_id"], found["frame_num"]) for found in core.G3File(str(file))]


def test_a_session_goes_on_counting_whatever_happens(recorder: Recorder) -> None:
    """Reconnects, kill -9 of ingest and of the archiver, a full file, START sent again; what is sent again after its
    end opens no file. A second archive, which nothing happens to, and a replay have the same files."""
    recorder.create_topic()
    streamer = Streamer()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver(*BY_SESSION)
        with sender.accept() as connection:
            connection.sendall(streamer.again() + streamer.start() + streamer.data(20))
            archiver.await_line("opened .*_000")
        with sender.accept() as connection:
            connection.sendall(streamer.again() + streamer.data(20))
            archiver.await_line("opened .*_001")
            archiver.kill()
            connection.sendall(streamer.data(20))
            archiver = recorder.archiver(*BY_SESSION)
            archiver.await_line("continuing .*_001|opened .*_001")
            connection.sendall(streamer.data(20) + flow(1) + streamer.data(20))
            archiver.await_line("opened .*_002")
            ingest.kill()
        recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(streamer.again() + streamer.data(20) + streamer.end())
            archiver.await_line(r"finished .*_003.* \(end\)")
        for _ in range(2):
            with sender.accept() as connection:
                connection.sendall(streamer.again())
        following = streamer.another()
        with sender.accept() as connection:
            connection.sendall(streamer.again() + following.start() + following.data(5) + following.end())
            archiver.await_line(rf"finished .*{following.session}_000.* \(end\)")

    names = [file.name for file in recorder.files()]
    assert names == [*(f"{streamer.session}_{n:03d}.g3" for n in range(4)), f"{following.session}_000.g3"]
    assert {file.parent.parent.name for file in recorder.files()} == {str(streamer.session)[:5]}
    first = [found for file in recorder.files()[:4] for found in frames_of(file)]
    assert {session for _, session, _ in first} == {streamer.session}
    scans = [num for kind, _, num in first if kind == "Scan"]
    assert scans == [*range(2, 122)], "each once, in order"
    last = frames_of(recorder.files()[3])
    assert [kind for kind, _, _ in last[:2]] == ["Observation", "Wiring"], "the carry"
    assert [(kind, num) for kind, _, num in last[-2:]] == [("Wiring", 122), ("Observation", 123)], "its end"
    assert frames_of(recorder.files()[4])[0] == ("Observation", following.session, 0)

    second = recorder.archiver(*BY_SESSION, archive="second")
    second.await_line(rf"finished .*{following.session}_000.* \(end\)")
    assert_same_tree(recorder.tree("second"), recorder.tree())
    rebuilt = recorder.directory / "rebuilt"
    assert recorder.command("replay", into=rebuilt).returncode == 0
    found = {path.relative_to(rebuilt): path.read_bytes() for path in rebuilt.glob("[0-9]*/*/*.g3")}
    assert found == {path.relative_to(recorder.data()): path.read_bytes() for path in recorder.files()}
    verified = recorder.command("verify", "--against-topic")
    assert verified.returncode == 0, verified.stdout
    assert re.search(r"\b10 frames sent again, and left out", verified.stdout), verified.stdout


@pytest.mark.slow
def test_a_session_that_spans_a_change_of_settings(recorder: Recorder) -> None:
    """Its next acquisition is the first by session; a replay follows both, and repairs either."""
    recorder.create_topic()
    streamer = Streamer()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver("--name-format", "date")
        with sender.accept() as connection:
            connection.sendall(streamer.start() + streamer.data(5))
            archiver.await_line("opened")
            assert archiver.stop() == 0
            archiver = recorder.archiver(*BY_SESSION)
            archiver.await_line("continuing")
        with sender.accept() as connection:
            connection.sendall(streamer.again() + streamer.data(5))
            archiver.await_line(f"opened .*/{streamer.session}_000")
            assert archiver.stop() == 0
            archiver = recorder.archiver("--name-format", "date")
            connection.sendall(streamer.end())
            archiver.await_line(r"finished .*_000.* \(end\)")
        with sender.accept() as connection:  # by date, what is sent again is recorded
            connection.sendall(streamer.again())
            archiver.await_line("opened", count=1)
        with sender.accept():
            archiver.await_line(r"finished .* \(disconnected\)")
    recorded = recorder.tree()
    assert [[kind for kind, _, _ in frames_of(file)] for file in by_time(recorder)] == [
        ["Observation", "Wiring", *["Scan"] * 5],
        ["Observation", *["Scan"] * 5, "Wiring", "Observation"],
        ["Observation", "Wiring"],
    ]
    assert recorder.command("verify").returncode == 0
    for file in recorder.files():
        file.unlink()
    assert recorder.command("repair").returncode == 0
    assert_same_tree(recorder.tree(), recorded)


def by_time(recorder: Recorder) -> list[Path]:
    """An archive's finished files in the order in which they were recorded, as `archiver files` lists them."""
    group = f"{recorder.stream}.archive"
    listed = run_archiver(recorder.servers, "files", "--group", group, "--json").stdout.splitlines()
    return [recorder.data() / file["path"] for line in listed for file in json.loads(line).get("files", [])]


def test_a_file_is_made_again_under_its_name(recorder: Recorder) -> None:
    """Its partial is damaged while the archiver is down: the names that were used before it are in its state."""
    recorder.create_topic()
    streamer = Streamer()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = disturbed(recorder, ["kill", "before", r"link .*_001\.g3$"], *BY_SESSION, archive="archive")
        with sender.accept() as connection:
            connection.sendall(streamer.start() + streamer.data(5) + flow(1) + streamer.data(5) + streamer.end())
            archiver.exit_code()
        [partial] = (recorder.data() / ".archiver" / recorder.stream).glob("*_001.*")
        partial.write_bytes(partial.read_bytes()[:-1] + b"?")
        archiver = recorder.archiver(*BY_SESSION)
        archiver.await_line("must be rebuilt")
        archiver.await_line(r"finished .*_001\.g3 \(end\)")
        with sender.accept() as connection:
            connection.sendall(streamer.again() + streamer.data(1) + flow(2))
            archiver.await_line(r"finished .*_002\.g3 \(end\)")
    eventually(lambda: len(recorder.files()) == 3, "three files")
    assert [file.name for file in recorder.files()] == [f"{streamer.session}_{n:03d}.g3" for n in range(3)]
