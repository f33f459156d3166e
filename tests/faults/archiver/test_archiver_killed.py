"""An archiver killed at any instant: between any two of its steps, the files are those of an undisturbed one."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

import pytest

from tests.support.archives import (
    FULL,
    SEED,
    SPLIT_AT,
    FileEvents,
    assert_same_tree,
    disturbed,
    left_behind,
    publish_night,
)
from tests.support.injection.shims import compiled
from tests.support.processes import Recorder, eventually

STREAM = f"killed-{token_hex(4)}"
PACE = ("--pace", "0.05")
"""So slow that a file is open for over a second, and is committed meanwhile."""


@dataclass(frozen=True)
class Step:
    """A step of the archiver. since: in a later file, the call after which its first match is that file's."""

    name: str
    call: str
    since: str = r"pwritev .*_001\."
    pace: tuple[str, ...] = ()
    whens: tuple[str, ...] = ("before", "after")


_OF_FIRST_IS_GONE = r"unlink .*_000\."
_WITHOUT_CLOSING = r'(?!.*"closing":)'
STEPS = [
    Step("new-partial", rf"fsync .*/\.archiver/{STREAM}$", _OF_FIRST_IS_GONE),
    Step("write", r"pwritev ", _OF_FIRST_IS_GONE, whens=("before", "half", "after")),
    Step("sync-in-mid-file", r"fdatasync ", pace=PACE),
    Step("commit-in-mid-file", rf'commit {_WITHOUT_CLOSING}.*"partial":', pace=PACE),
    Step("committed-in-mid-file", rf'committed {_WITHOUT_CLOSING}.*"partial":', pace=PACE),
    Step("sync-at-the-end", r"fdatasync "),
    Step("commit-closing", r'commit .*"closing":'),
    Step("committed-closing", r'committed .*"closing":'),
    Step("link", r"link .*\.g3$"),
    Step("sync-of-the-file", r"fsync .*\.g3$"),
    Step("sync-of-its-directory", rf"fsync .*/{STREAM}$", r"link .*_001\.g3$"),
    Step("line-in-SHA256SUMS", r"append .*SHA256SUMS", whens=("before", "half", "after")),
    Step("sync-of-SHA256SUMS", r"fsync .*SHA256SUMS"),
    Step("event", r"produce g3\.files "),
    Step("event-flush", r"flush$", r"produce .*_001\.g3"),
    Step("unlink", r"unlink .*_00\d\."),
    Step("last-commit", rf"commit {_WITHOUT_CLOSING}", r"unlink .*_001\."),
    Step("last-committed", rf"committed {_WITHOUT_CLOSING}", r"unlink .*_001\."),
]
_FIRST_SINCE = {
    "sync-of-its-new-directory": r"renameat2 ",
    "sync-of-its-old-directory": r"renameat2 ",
    "sync-of-its-directory": r"link ",
    "last-commit": _OF_FIRST_IS_GONE,
    "last-committed": _OF_FIRST_IS_GONE,
}


@dataclass(frozen=True)
class Kill:
    """Where an archiver is killed."""

    step: Step
    when: str
    later: bool

    def __str__(self) -> str:
        return f"{self.when}-{self.step.name}-of-a-{'later' if self.later else 'first'}-file"

    @property
    def flags(self) -> list[str]:
        """As injection/stopped_at.py takes it."""
        since = self.step.since if self.later else _FIRST_SINCE.get(self.step.name)
        return ["kill", self.when, self.step.call, *self.step.pace, *(["--since", since] if since else [])]


ALL = [Kill(step, when, later) for step in STEPS for when in step.whens for later in (False, True)]
# Each instant once, of the first file and of a later one in turn (in mid-file a later one takes seconds). What is
# after a step that is done when the call returns is before the next one; a commit isn't done then.
SAMPLE = [
    Kill(step, when, bool(number % 2) and not step.pace)
    for number, (step, when) in enumerate(
        (step, when) for step in STEPS for when in step.whens if when != "after" or "commit" in step.name
    )
]
QUICK = [kill for kill in ALL if not kill.step.pace]
PAIRS = [random.Random(SEED + n).sample(ALL if FULL else QUICK, 2) for n in range(40 if FULL else 3)]


_MOVED = rf"renameat2 .*{STREAM}.*\.g3$"
WITHOUT_LINKS = [
    Kill(step, when, later)
    for step in (
        Step("renameat2", _MOVED),
        Step("sync-of-the-file", r"fsync .*\.g3$"),
        Step("sync-of-its-new-directory", rf"fsync .*/{STREAM}$", _MOVED),
        Step("sync-of-its-old-directory", rf"fsync .*/\.archiver/{STREAM}$", _MOVED),
        Step("line-in-SHA256SUMS", r"append .*SHA256SUMS"),
        Step("event", r"produce g3\.files "),
        Step("unlink", r"unlink .*_00\d\.", whens=("before",)),  # it fails: the name is gone already
        Step("last-committed", rf"committed {_WITHOUT_CLOSING}", r"unlink .*_001\."),
    )
    for when in step.whens
    for later in (False, True)
]
"""Where an archiver is killed whose file system has no hard links: a file loses its old name with the new one."""
WITHOUT_LINKS_SAMPLE = [
    kill
    for number, kill in enumerate(WITHOUT_LINKS)
    if FULL or ((kill.when == "before" or "renameat2" in kill.step.name) and number // 2 % 2 == kill.later)
]


@dataclass(frozen=True)
class Night:
    """A topic, and what an undisturbed archiver made of it."""

    servers: str
    tree: dict[str, bytes]
    files: list[str]
    events: FileEvents


@pytest.fixture(scope="module")
def night(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with Recorder(kafka, STREAM, tmp_path_factory.mktemp("night")) as recorder:
        files = publish_night(recorder)
        assert len(files) == 3
        events = FileEvents(kafka)
        yield Night(kafka, recorder.tree("undisturbed"), files, events)
        events.close()


def live(night: Night, directory: Path, kills: list[Kill]) -> None:
    """Run archivers that are killed there, one after the other, and one that isn't."""
    archive, last = token_hex(4), f"finished {night.files[-1]}"
    with Recorder(night.servers, STREAM, directory) as recorder:
        for number, kill in enumerate(kills):
            archiver = disturbed(recorder, kill.flags, *SPLIT_AT, archive=archive)
            # One that continues after another may find the step done already at which it was to be killed.
            archiver.await_line(rf"^stopped_at: kill{'|' + last if number else ''}")
            if not archiver.times_of(last):
                assert archiver.exit_code() == -9
        if not archiver.times_of(last):
            archiver = recorder.archiver(*SPLIT_AT, archive=archive)
            archiver.await_line(rf"recording {STREAM}$")
        # It may have been finished completely, or up to its link: then the log doesn't show it.
        path = recorder.data(archive) / night.files[-1]
        eventually(lambda: path.exists() and not left_behind(recorder, archive), "the last file, its partial gone")
        code = archiver.stop()
        if code == -9:  # after it had logged that it was done: one step comes later
            archiver = recorder.archiver(*SPLIT_AT, archive=archive)
            archiver.await_line(rf"recording {STREAM}$")
            code = archiver.stop()
        assert code == 0
        assert_same_tree(recorder.tree(archive), night.tree)
        group = f"{STREAM}.{archive}"
        events = night.events.of(group)
        assert {key for key, _ in events} == {f"{group}/{STREAM}/{path}" for path in night.files}
        assert not archiver.times_of("LOST|must be rebuilt")


@pytest.mark.slow
@pytest.mark.parametrize("kill", ALL if FULL else SAMPLE, ids=str)
def test_killed_at_any_step_the_files_are_the_same(night: Night, tmp_path: Path, kill: Kill) -> None:
    live(night, tmp_path, [kill])


@pytest.mark.slow
@pytest.mark.parametrize("kill", WITHOUT_LINKS_SAMPLE, ids=str)
def test_without_hard_links_killed_at_any_step_the_files_are_the_same(
    night: Night, tmp_path: Path, kill: Kill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", compiled("no_link", tmp_path))
    live(night, tmp_path, [kill])


@pytest.mark.parametrize("kills", PAIRS, ids=lambda kills: "-and-".join(map(str, kills)))
def test_killed_twice_the_files_are_the_same(night: Night, tmp_path: Path, kills: list[Kill]) -> None:
    print(f"FAULTS_SEED={SEED}")
    live(night, tmp_path, kills)
