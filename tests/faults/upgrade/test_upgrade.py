"""A site is upgraded in the middle of an acquisition: this version continues from the state of the one before.

The old programs are stopped, or killed. Their open file, spool, commits, position of --on-file and events are used:
no frame is lost or duplicated, and the files are those that the old version would have written.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from spt3g import core

from testbed.venv import IndexUnreachable
from tests.faults.archiver.test_names_by_session import Streamer
from tests.support.archives import FULL, Source, all_committed, assert_same_tree, left_behind, quick_session
from tests.support.earlier_version import BEFORE_REDESIGN, EarlierVersion, NotInHistory, earlier_version
from tests.support.injection.hooks import Hook
from tests.support.injection.proxy import FarBroker
from tests.support.processes import PATIENT, Program, RawSender, Recorder, bytes_in, eventually, flow, scan

pytestmark = pytest.mark.slow

ENDS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
NAMES = {
    "date": ("--name-format", "date"),
    "session": ("--name-format", "session", "--carry", "Observation", "--carry", "Wiring"),
}


@pytest.fixture(scope="session")
def earlier() -> EarlierVersion:
    """The version before this one, installed."""
    try:
        return earlier_version(BEFORE_REDESIGN)
    except (NotInHistory, IndexUnreachable) as why:
        pytest.skip(str(why))


@pytest.fixture
def old(earlier: EarlierVersion, kafka: str, stream: str, tmp_path: Path) -> Iterator[Recorder]:
    """The stream's recorder as it was before the upgrade."""
    with Recorder(kafka, stream, tmp_path, earlier.python) as before:
        yield before


@pytest.fixture
def new(recorder: Recorder) -> Recorder:
    """The same one, with the same directories and group, after it."""
    return recorder


def end(program: Program, number: signal.Signals) -> None:
    """Stop it, or kill it."""
    assert program.stop(number) == (0 if number is signal.SIGTERM else -signal.SIGKILL)


def frame_numbers(recorder: Recorder) -> list[int]:
    """The frame_num of each Scan frame in an archive's files, in the order of their names."""
    found = [frame for file in recorder.files() for frame in core.G3File(str(file))]
    return [frame["frame_num"] for frame in found if frame.type == core.G3FrameType.Scan]


def files(recorder: Recorder, archive: str = "archive") -> dict[str, bytes]:
    """An archive's finished files."""
    return {name: data for name, data in recorder.tree(archive).items() if name.endswith(".g3")}


def partial(recorder: Recorder, private: Path | None = None) -> Path:
    """The stream's only open file."""
    directory = (private or recorder.data() / ".archiver") / recorder.stream
    [found] = [path for path in directory.iterdir() if path.suffix != ".lock"]
    return found


def assert_right(new: Recorder, *flags: str) -> None:
    """The new version finds nothing wrong, and rebuilds the same files from the topics."""
    verified = new.command("verify", "--against-topic", *flags)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    rebuilt = new.command("replay", into=new.data("rebuilt"))
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert_same_tree(files(new, "rebuilt"), files(new))


@ENDS
@pytest.mark.parametrize(
    ("names", "private"),
    [
        pytest.param(names, private, id=f"{names}{'-private-dir' if private else ''}")
        for names in NAMES
        for private in ([False, True] if FULL else [names == "session"])
    ],
)
def test_the_open_file_and_the_commits_are_continued(
    old: Recorder, new: Recorder, number: signal.Signals, names: str, private: bool
) -> None:
    """First the archiver is replaced, then ingest; both in the middle of an acquisition."""
    old.create_topic()
    private_dir = old.directory / "private" if private else None
    where = ("--private-dir", str(private_dir)) if private else ()
    kept = (*where, "--checksums", "private") if private else ()
    streamer = Streamer()
    following = streamer.another()
    with RawSender() as sender:
        ingest = old.ingest(sender.port)
        undisturbed = old.archiver(*NAMES[names], archive="undisturbed")
        archiver = old.archiver(*NAMES[names], *kept)
        with sender.accept() as connection:
            connection.sendall(streamer.start() + streamer.data(20) + streamer.end())
            archiver.await_line(r"finished .* \(end\)")
            connection.sendall(following.start() + following.data(20))
            opened = archiver.await_line(r"opened (\S+)", count=2)[1]
            so_far = len(old.records())
            eventually(lambda: old.committed() >= so_far, "the open file committed")
            begun = partial(old, private_dir)
            inode, size = begun.stat().st_ino, begun.stat().st_size
            connection.sendall(following.data(20))
            eventually(lambda: begun.stat().st_size > size, "more of it written")
            end(archiver, number)
            connection.sendall(following.data(20))
            archiver = new.archiver(*NAMES[names], *where)
            assert archiver.await_line(r"continuing (\S+)")[1] == opened
            assert partial(new, private_dir) == begun
            connection.sendall(following.data(19) + (last := following.data(1)))
            # Frames that ingest hasn't read when it ends would be gone.
            eventually(lambda: last in [value for _, _, value in old.records()], "all of it published")
            end(ingest, number)
        ingest = new.ingest(sender.port)
        archiver.await_line(rf"finished {opened} \(disconnected\)")
        assert (new.data() / opened).stat().st_ino == inode, "it is the same file"
        with sender.accept() as connection:
            connection.sendall(following.again() + following.data(20) + following.end())
            for program in (archiver, undisturbed):
                program.await_line(r"finished .* \(end\)", count=1 if program is archiver else 2)
    assert_same_tree(files(new), files(old, "undisturbed"))
    assert len(files(new)) == 3
    assert frame_numbers(new) == [*range(2, 22), *range(2, 102)]
    assert "LOST" not in archiver.log
    assert not archiver.times_of("made again|must be rebuilt")
    if not private:
        assert_same_tree(new.tree(), old.tree("undisturbed"))
    assert_right(new, *where)


@ENDS
def test_records_that_only_the_old_spool_has_are_published(
    earlier: EarlierVersion, stream: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Kafka is down when the old programs end and when the new ones start.

    The spool has records of one chunk and of three, and a rejected frame.
    """
    with (
        FarBroker(tmp_path / "kafka") as broker,
        Recorder(broker.bootstrap_servers, stream, tmp_path, earlier.python) as old,
        Recorder(broker.bootstrap_servers, stream, tmp_path) as new,
        RawSender() as sender,
    ):
        old.create_topic()
        ingest, archiver = old.ingest(sender.port), old.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + b"".join(scan(n) for n in range(20)))
            opened = archiver.await_line(r"opened (\S+)")[1]
            so_far = len(old.records())
            eventually(lambda: old.committed() >= so_far, "the open file committed")
            inode = partial(old).stat().st_ino
            broker.kill()
            rejected = scan(20)[:-1] + b"?"
            # From outside, only the spool's size shows that the last frame is in it.
            spool = tmp_path / "spool" / stream / "spool"
            connection.sendall(scan(21, 2_500_000) + rejected)
            eventually(lambda: bytes_in(spool) > 2_500_000, "the large frame in the spool")
            before = bytes_in(spool)
            connection.sendall(last := b"".join(scan(n, 20_000) for n in range(22, 40)))
            eventually(lambda: bytes_in(spool) > before + len(last), "all frames in the spool")
            for program in (archiver, ingest):
                program.send(number)
            for program in (archiver, ingest):
                assert program.exit_code() == (0 if number is signal.SIGTERM else -signal.SIGKILL)
        ingest, archiver = new.ingest(sender.port), new.archiver()
        ingest.await_line(r"MB from before wait in the spool")
        with sender.accept() as connection:
            connection.sendall(b"".join(scan(n) for n in range(40, 60)) + flow(2))
            broker.start()
            assert archiver.await_line(r"continuing (\S+)")[1] == opened
            archiver.await_line(r"finished .* \(end\): 20 frames")
        assert (new.data() / opened).stat().st_ino == inode, "it is the same file"
        assert frame_numbers(new) == [*range(20), *range(21, 60)]
        assert [value for _, _, value in new.records(f"g3.rejected.{stream}")] == [rejected]
        assert "LOST" not in ingest.log + archiver.log
        assert_right(new)


EACH_SECOND = ("--time-per-file", "1")
SINCE_SECOND_FILE = r"pwritev .*_001\."
STEPS = {
    "the-commit-of-closing": r'committed .*"closing":',
    "its-name": r"link .*\.g3$",
    "its-line-in-SHA256SUMS": r"append .*SHA256SUMS",
    "its-event": r"produce g3\.files ",
    "the-end-of-its-partial": r"unlink .*_001\.",
}
"""The steps of finishing a file, in order, as patterns of injection/stopped_at.py."""


@pytest.mark.parametrize("step", STEPS if FULL else list(STEPS)[::2])
def test_a_file_that_was_being_finished_is_finished(
    old: Recorder, new: Recorder, earlier: EarlierVersion, step: str
) -> None:
    """The old archiver is killed after each step of finishing."""
    old.create_topic()
    source = Source(old.servers, old.stream)
    undisturbed = old.archiver(*EACH_SECOND, archive="undisturbed")
    # The old version's injection, at its path in that commit: it patches modules by their old names.
    stopped_at = str(earlier.source.joinpath("tests", "faults", "stopped_at.py"))
    what = ["kill", "after", STEPS[step], "--since", SINCE_SECOND_FILE, "--"]
    where = ["--data-dir", str(old.data()), "--group", f"{old.stream}.archive", "--stream", old.stream]
    archiver = old.start(stopped_at, *what, *where, *PATIENT, *EACH_SECOND)
    archiver.await_line(f"recording {old.stream}$")
    source.start()
    source.scans(30, every=50)
    source.scans(10, every=50)
    source.end()
    assert archiver.exit_code() == -signal.SIGKILL
    archiver.await_line("stopped_at: kill after")
    source.start()
    source.scans(3)
    source.end()
    archiver = new.archiver(*EACH_SECOND)
    undisturbed.await_line(r"finished .* \(end\)", count=2)
    eventually(lambda: all_committed(new, [source]) and not left_behind(new, "archive"), "all finished")
    assert_same_tree(new.tree(), old.tree("undisturbed"))
    assert frame_numbers(new) == [*range(43)]
    assert not archiver.times_of("LOST|made again|must be rebuilt")
    assert_right(new)


@ENDS
def test_the_position_of_on_file_and_retired_files_are_known(
    old: Recorder, new: Recorder, number: signal.Signals
) -> None:
    """No event is skipped or handed over twice: published before the upgrade, between the programs, or after it."""
    old.create_topic()
    source = Source(old.servers, old.stream, epochs=0)
    source.now -= source.now % 1000  # so that all acquisitions are in one second, numbered
    hook, quick = Hook(old.directory), quick_session(old.directory)
    archiver = old.archiver(*hook.flags, *quick)

    def record(count: int) -> None:
        for _ in range(count):
            source.start()
            source.scans(3)
            source.end()

    record(1)
    eventually(lambda: hook.paths() == ["_000.g3"], "the first file handed over")
    [retired] = old.files()
    retired.unlink()
    done = old.command("retire", "--reason", "its position stored", str(retired))
    assert done.returncode == 0, done.stderr
    eventually(lambda: hook.paths() == ["_000.g3", "_000.g3"], "its retirement, too")
    hook.ask("fail")
    record(2)
    archiver.await_line(r"finished .* \(end\)", count=3)
    archiver.await_line("on-file: .*_001.g3: attempt 1 failed")
    # Otherwise the last file's event may be published again, which isn't a duplicate caused by the upgrade.
    eventually(lambda: all_committed(old, [source]), "all of it committed")
    end(archiver, number)
    hook.ask_no_more("fail")
    record(1)
    archiver = new.archiver(*hook.flags, *quick)
    record(1)
    archiver.await_line(r"finished .* \(end\)", count=2)
    eventually(lambda: hook.paths()[-1:] == ["_004.g3"], "all handed over")
    assert hook.paths() == ["_000.g3", "_000.g3", "_001.g3", "_002.g3", "_003.g3", "_004.g3"]
    assert archiver.stop() == 0
    assert not retired.exists()
    assert_right(new)


def test_the_version_before_continues_after_going_back(old: Recorder, new: Recorder) -> None:
    """The new one ends with a file open and records in Kafka that it hasn't read; the old one records them all."""
    old.create_topic()
    source = Source(new.servers, new.stream)
    archiver = new.archiver()
    source.start()
    source.scans(20)
    opened = archiver.await_line(r"opened (\S+)")[1]
    eventually(lambda: all_committed(new, [source]), "the open file committed")
    inode = partial(new).stat().st_ino
    end(archiver, signal.SIGTERM)
    source.scans(20)
    source.end()
    archiver = old.archiver()
    archiver.await_line(r"finished .* \(end\)")
    assert (old.data() / opened).stat().st_ino == inode, "it is the same file"
    assert frame_numbers(old) == [*range(40)]
    assert "LOST" not in archiver.log
    assert_right(new)
