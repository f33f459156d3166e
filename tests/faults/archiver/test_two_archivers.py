"""Two archivers share the streams of one data directory, and one of them dies, freezes, or isn't alone."""

import re
import shutil
import signal

import pytest

from tests.support.archives import (
    ONLY_IN_FULL,
    Source,
    all_committed,
    assert_same_tree,
    disturbed,
    left_behind,
    quick_session,
)
from tests.support.processes import Program, Recorder, eventually

FILES = 40


class Pair:
    """Two members, a and b, of one group with one data directory, three streams, and an undisturbed archive."""

    def __init__(self, recorder: Recorder, of_a: list[str]) -> None:
        self.recorder = recorder
        self.streams = [recorder.stream, f"{recorder.stream}-2", f"{recorder.stream}-3"]
        self.sources = [Source(recorder.servers, stream) for stream in self.streams]
        for stream in self.streams:
            recorder.create_topic(stream)
        self._quick = quick_session(recorder.directory)
        self.undisturbed = recorder.archiver(*self._more, archive="undisturbed")
        flags = [*self._more, *self.as_member("a")]
        self.a = disturbed(recorder, of_a, *flags, archive="archive") if of_a else recorder.archiver(*flags)
        self.a.await_line("recording " + recorder.stream)
        self.b = recorder.archiver(*self._more, *self.as_member("b"))
        self.b.await_line("recording " + recorder.stream)
        self.of_b = streams_of(self.b)
        self.of_a = [stream for stream in self.streams if stream not in self.of_b]
        assert self.of_a
        assert self.of_b

    @property
    def _more(self) -> list[str]:
        return [flag for stream in self.streams[1:] for flag in ("--stream", stream)]

    def as_member(self, name: str) -> list[str]:
        """The flags that make an archiver that member."""
        return ["--instance-id", f"{self.recorder.stream}-{name}", *self._quick]

    def start(self) -> None:
        """Begin an acquisition on every stream."""
        for source in self.sources:
            source.start()
            source.scans(50)

    def committed(self) -> bool:
        """Whether all that was sent so far is committed."""
        return all_committed(self.recorder, self.sources)

    def go_on(self) -> None:
        """Send more frames on every stream."""
        for source in self.sources:
            source.scans(50)

    def end(self) -> None:
        """End the acquisitions."""
        for source in self.sources:
            source.now += 1000  # so that the next one has a name of its own
            source.end()

    def assert_same(self, acquisitions: int) -> None:
        """Check that all is finished, as in the undisturbed archive."""
        expected = len(self.streams) * acquisitions
        self.undisturbed.await_line(r"finished .* \(end\)", count=expected)
        assert len(self.recorder.files("undisturbed")) == expected

        def finished(stream: str) -> int:
            pattern = rf" {stream}: finished .* \(end\)"
            return len(self.a.times_of(pattern)) + len(self.b.times_of(pattern))

        eventually(lambda: all(finished(stream) >= acquisitions for stream in self.streams), "every file finished")
        assert_same_tree(self.recorder.tree(), self.recorder.tree("undisturbed"))


def streams_of(archiver: Program) -> list[str]:
    """Return the streams that it has logged as recorded: the first ones in any order, then those taken over."""
    found = (re.search(r"INFO +recording ((?!to ).*)", line) for _, line in archiver.lines)
    return [stream for match in found if match for stream in match[1].split(", ")]


def test_the_streams_of_a_killed_archiver_move_to_the_other(recorder: Recorder) -> None:
    pair = Pair(recorder, [])
    moved = ", ".join(sorted(pair.of_b))
    pair.a.await_line(f"INFO +released {moved}: another member of the group has joined")
    pair.a.await_line(rf"INFO +{moved}: now recorded by {recorder.stream}-b \(\S+\)")
    pair.start()
    eventually(pair.committed, "a commit of every stream")
    pair.a.kill()
    pair.go_on()
    for stream in pair.of_a:
        pair.b.await_line(f"recording .*{stream}")
    pair.end()
    pair.assert_same(1)
    assert left_behind(recorder, "archive") == []
    assert "LOST" not in pair.b.log


@pytest.mark.parametrize(
    ("call", "ended"),
    [
        pytest.param(r"pwritev ", False, id="after-a-write", marks=ONLY_IN_FULL),
        pytest.param(r"fdatasync ", False, id="before-the-commit-of-what-is-durable"),
        pytest.param(r"link ", True, id="before-the-last-commit-of-what-has-its-name"),
    ],
)
def test_an_archiver_frozen_past_its_session_does_no_harm_when_it_thaws(
    recorder: Recorder, call: str, ended: bool
) -> None:
    pair = Pair(recorder, ["freeze", "after", call, "--since", "^committed "])
    pair.start()
    eventually(lambda: pair.committed() or bool(pair.a.times_of("^stopped_at")), "a commit of every stream")
    pair.go_on()
    if ended:
        pair.end()
    pair.a.await_line("^stopped_at: freeze")
    for stream in pair.of_a:
        pair.b.await_line(f"recording .*{stream}")
    if not ended:
        pair.end()
    pair.b.await_line(r"finished .* \(end\)", count=3 - len(pair.a.times_of("finished")))
    before = recorder.tree()
    pair.a.send(signal.SIGCONT)
    pair.a.await_line(r"released: the group has assigned it to another member")
    pair.a.await_line(r"INFO +recording (?!to )", count=2)  # it is a member again
    assert_same_tree(recorder.tree(), before)
    pair.start()
    pair.end()
    pair.assert_same(2)
    assert "LOST" not in pair.a.log + pair.b.log
    assert left_behind(recorder, "archive") == [], "nothing of what the frozen one held"
    assert recorder.command("verify").returncode == 0


@pytest.mark.slow
def test_a_second_archiver_may_join_while_files_are_finished_all_the_time(recorder: Recorder) -> None:
    streams = [recorder.stream, f"{recorder.stream}-2", f"{recorder.stream}-3"]
    flags = ["--time-per-file", "1", *(flag for stream in streams[1:] for flag in ("--stream", stream))]
    for stream in streams:
        recorder.create_topic(stream)
        source = Source(recorder.servers, stream)
        source.start()
        source.scans(FILES * 10, every=100)
        source.end()
    members = [recorder.archiver(*flags, "--instance-id", f"{recorder.stream}-a")]
    members[0].await_line("opened")
    members.append(recorder.archiver(*flags, "--instance-id", f"{recorder.stream}-b"))
    members[1].await_line(f"recording {recorder.stream}")
    undisturbed = recorder.archiver(*flags, archive="undisturbed")
    undisturbed.await_line(r"finished .* \(end\)", count=len(streams))

    def ended() -> int:
        return sum(len(member.times_of(r"finished .* \(end\)")) for member in members)

    eventually(lambda: ended() >= len(streams), "the last file of every stream")
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))


def say_that_it_is_here(recorder: Recorder, archive: str) -> None:
    """As an operator does whose disk is lost: from now on, that directory is the archive."""
    private = recorder.data(archive) / ".archiver"
    private.mkdir(parents=True)
    shutil.copy(recorder.data() / ".archiver" / "archive.identity", private)


def test_on_another_host_without_the_data_the_open_file_is_made_again(recorder: Recorder) -> None:
    recorder.create_topic()
    source, rotating = Source(recorder.servers, recorder.stream), ["--time-per-file", "1", "--instance-id", "a"]
    undisturbed = recorder.archiver(*rotating, archive="undisturbed")
    archiver = recorder.archiver(*rotating)
    source.start()
    source.scans(15, every=100)  # the second file begins with the carry, which is in the first
    archiver.await_line("opened .*_001")
    eventually(lambda: recorder.committed() >= source.sent, "a commit of them")
    archiver.kill()
    group = ["--group", f"{recorder.stream}.archive", "--stream", recorder.stream]
    say_that_it_is_here(recorder, "moved")
    moved = recorder.start("archiver", "--data-dir", str(recorder.data("moved")), *group, *rotating)
    moved.await_line(r"_001\.g3 must be rebuilt from the topic: it is missing")
    source.end()
    for program in (undisturbed, moved):
        program.await_line(r"finished .*_001\.g3 \(end\)")
    expected = {name: data for name, data in recorder.tree("undisturbed").items() if name.endswith("_001.g3")}
    found = {name: data for name, data in recorder.tree("moved").items() if name.endswith(".g3")}
    assert_same_tree(found, expected)
    assert "LOST" not in moved.log


def test_a_second_archiver_with_the_same_instance_id_on_this_host_is_refused(recorder: Recorder) -> None:
    recorder.create_topic()
    first = recorder.archiver("--instance-id", "a")
    first.await_line(f"recording {recorder.stream}")
    second = recorder.archiver("--instance-id", "a")
    assert second.exit_code() == 1
    second.await_line("ERROR .*another archiver runs on this host with the instance id a .*stop it first")
    source = Source(recorder.servers, recorder.stream)
    source.start()
    source.end()
    first.await_line(r"finished .* \(end\)")


def test_with_the_same_instance_id_on_another_host_the_older_one_stops(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    undisturbed = recorder.archiver("--instance-id", "b", archive="undisturbed")
    older = recorder.archiver("--instance-id", "a")
    source.start()
    source.scans(50)
    older.await_line("opened")
    say_that_it_is_here(recorder, "newer")  # a disk that the two hosts share; but its locks would be shared here, too
    group = ["--group", f"{recorder.stream}.archive", "--stream", recorder.stream, "--instance-id", "a"]
    newer = recorder.start("archiver", "--data-dir", str(recorder.data("newer")), *group)
    assert older.exit_code() == 1
    older.await_line("ERROR .*another archiver with the instance id a has taken over")
    source.scans(50)
    source.end()
    for program in (undisturbed, newer):
        program.await_line(r"finished .* \(end\)")
    assert_same_tree(recorder.tree("newer"), recorder.tree("undisturbed"))
    assert recorder.files() == []
