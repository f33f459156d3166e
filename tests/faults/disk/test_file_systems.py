"""Data directories on other file systems: NFS' locks, no hard links, calls that aren't there. By shims, so that every
machine can run this; docs/understand/reliability.md says what was seen on the real ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.archives import Source, all_committed, assert_same_tree, disturbed, left_behind, published_events
from tests.support.disk import small_disk
from tests.support.injection.shims import compiled
from tests.support.processes import Recorder, eventually

NO_LINK = r"renameat2 .*\.g3$"
"""The call that gives a file its name where there are no hard links, in the notation of injection/stopped_at.py."""

On = Callable[..., None]


@pytest.fixture
def on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> On:
    """Make programs that start from now on see such a file system; settings: the shim's."""

    def preload(*shims: str, **settings: str) -> None:
        monkeypatch.setenv("LD_PRELOAD", " ".join(compiled(shim, tmp_path) for shim in shims))
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return preload


class Night:
    """A stream, and what an undisturbed archiver makes of it on a file system without limitations."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        recorder.create_topic()
        self.source = Source(recorder.servers, recorder.stream)
        self.undisturbed = recorder.archiver(archive="undisturbed")
        self.undisturbed.await_line(f"recording {recorder.stream}$")
        self._acquisitions = 0

    def begin(self) -> None:
        """Begin an acquisition."""
        self.source.start()
        self.source.scans(50)

    def end(self) -> None:
        """End the acquisition."""
        self._acquisitions += 1
        self.source.scans(50)
        self.source.now += 1000  # so that the next one has a name of its own
        self.source.end()

    def assert_same(self) -> None:
        """The finished files are the same as without faults."""
        self.undisturbed.await_line(r"finished .* \(end\)", count=self._acquisitions)
        eventually(
            lambda: len(self.recorder.files()) == self._acquisitions and not left_behind(self.recorder, "archive"),
            "every file finished",
        )
        eventually(lambda: all_committed(self.recorder, [self.source]), "all of it committed")
        assert_same_tree(self.recorder.tree(), self.recorder.tree("undisturbed"))


@pytest.fixture
def night(recorder: Recorder) -> Night:
    return Night(recorder)


def test_on_nfs_an_open_file_is_continued_after_a_restart(night: Night, on: On) -> None:
    on("nfs_flock")
    archiver = night.recorder.archiver()
    night.begin()
    eventually(lambda: all_committed(night.recorder, [night.source]), "a commit in mid-file")
    archiver.kill()
    archiver = night.recorder.archiver()
    archiver.await_line("continuing ")
    night.end()
    archiver.await_line(r"finished .* \(end\)")
    night.assert_same()
    assert "can't write" not in archiver.log
    assert "LOST" not in archiver.log


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"NO_LINK_ERRNO": "18"}], ids=["exFAT", "BeeGFS"])
def test_without_hard_links_files_are_finished(night: Night, on: On, settings: dict[str, str]) -> None:
    on("no_link", **settings)
    archiver = night.recorder.archiver()
    for _ in range(2):
        night.begin()
        night.end()
    archiver.await_line(r"finished .* \(end\)", count=2)
    night.assert_same()
    assert archiver.stop() == 0


def test_without_hard_links_what_only_a_partial_holds_is_published_once(night: Night, on: On) -> None:
    """Killed when it had been given its name, before its event was published."""
    on("no_link")
    archiver = night.recorder.archiver()
    night.begin()
    eventually(lambda: all_committed(night.recorder, [night.source]), "a commit in mid-file")
    archiver.kill()
    (partial,) = (night.recorder.data() / ".archiver" / night.recorder.stream).glob("*_*")
    night.recorder.recreate_topic()
    killed = disturbed(night.recorder, ["kill", "after", NO_LINK], archive="archive")
    assert killed.exit_code() == -9
    (moved,) = night.recorder.files()
    assert partial.exists()
    archiver = night.recorder.archiver()
    archiver.await_line("published the 51 frames that could be salvaged, as ")
    eventually(lambda: left_behind(night.recorder, "archive") == [], "the partial gone")
    assert night.recorder.files() == [moved]
    assert archiver.stop() == 0
    assert [value["event"] for _, value in published_events(night.recorder) if "path" in value] == ["salvaged"]


@pytest.mark.parametrize(
    ("shim", "settings", "why"),
    [
        ("no_flock", {}, "its file system has no locks .*Function not implemented.*Lustre: -o flock"),
        ("no_flock", {"NO_FLOCK_ERRNO": "37"}, "its file system has no locks .*No locks available"),
        (
            "no_link",
            {"NO_RENAMEAT2_ERRNO": "22"},
            "no file can be finished there: link: Operation not permitted; rename .*: Invalid argument",
        ),
    ],
    ids=["no-flock", "no-lock-daemon", "neither-link-nor-rename"],
)
def test_what_recording_needs_and_is_missing_is_reported_at_the_start(
    recorder: Recorder, on: On, shim: str, settings: dict[str, str], why: str
) -> None:
    on(shim, **settings)
    archiver = recorder.archiver()
    assert archiver.exit_code() == 1
    archiver.await_line(rf"ERROR .*: the data directory {recorder.data()} can't be used: {why}")
    assert [path.name for path in recorder.data().iterdir()] == [".archiver"]


def test_with_few_calls_files_are_finished_and_the_log_says_what_a_power_cut_may_do(night: Night, on: On) -> None:
    on("few_calls", "no_link")
    archiver = night.recorder.archiver()
    for _ in range(2):
        night.begin()
        night.end()
    archiver.await_line(r"finished .* \(end\)", count=2)
    night.assert_same()
    assert len(archiver.times_of("can't sync a directory")) == 1
    assert len(archiver.times_of("WARN|ERROR")) == 1


def test_a_date_directory_on_another_mount_is_reported_with_its_reason(night: Night) -> None:
    """As when an operator moves this year's files to another disk."""
    directory = night.recorder.data() / f"{night.source.now // 1000:010d}"[:5]
    with small_disk(directory, "8m", in_use=True):
        archiver = night.recorder.archiver()
        night.begin()
        night.end()
        archiver.await_line(r"publishing \S+: .* all below the data directory must be on one mount")
        assert archiver.stop() == 0
    archiver = night.recorder.archiver()  # it is unmounted: what couldn't be finished is
    archiver.await_line(r"finished .* \(end\)")
    night.assert_same()


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"STALE_ERRNO": "5"}], ids=["stale-handle", "lost-lock"])
@pytest.mark.parametrize("then", ["more frames", "its end"])
def test_on_nfs_a_descriptor_that_the_server_forgot_is_reopened(
    night: Night, on: On, tmp_path: Path, settings: dict[str, str], then: str
) -> None:
    server = tmp_path / "server"
    on("nfs_flock", "stale", STALE_FILE=str(server), STALE_PATH="/.archiver/", **settings)
    archiver = night.recorder.archiver()
    night.begin()
    eventually(lambda: all_committed(night.recorder, [night.source]), "a commit in mid-file")
    server.write_bytes(b"restarted")
    if then == "more frames":
        night.source.scans(50)
        archiver.await_line("continuing ")
    night.end()
    archiver.await_line(r"finished .* \(end\)")
    night.assert_same()
    assert "LOST" not in archiver.log
