"""An open file damaged while the archiver was down: noticed before the file gets its name, rebuilt, and logged."""

import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex

import pytest

from tests.support.archives import FULL, SEED, Source, assert_same_tree, disturbed, left_behind, verified_files
from tests.support.processes import Recorder, eventually

STREAM = f"damaged-{token_hex(4)}"
IN_MID_FILE = ["kill", "after", r'committed (?!.*"closing":).*"partial":', "--pace", "0.04"]
BEFORE_IT_HAS_ITS_NAME = ["kill", "before", r"link .*\.g3$"]


@pytest.fixture(scope="module")
def peace(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """An acquisition of 6 MB, and what an undisturbed archiver made of it."""
    with Recorder(kafka, STREAM, tmp_path_factory.mktemp("peace")) as recorder:
        recorder.create_topic()
        source = Source(kafka, STREAM, epochs=0)  # at the pace below they would take minutes
        source.start()
        source.scans(30, 200_000)
        source.end()
        archiver = recorder.archiver(archive="undisturbed")
        archiver.await_line(r"finished .* \(end\)")
        assert archiver.stop() == 0
        assert len(verified_files(recorder)) == 1
        yield recorder


def truncate(partial: Path) -> None:
    os.truncate(partial, partial.stat().st_size // 2)


def delete(partial: Path) -> None:
    partial.unlink()


def flip_a_bit(partial: Path) -> None:
    chance = random.Random(SEED)
    print(f"FAULTS_SEED={SEED}")
    with partial.open("r+b") as file:
        at = chance.randrange(partial.stat().st_size // 2)  # the end of it may not be committed yet
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def append(partial: Path) -> None:
    with partial.open("ab") as file:
        file.write(b"not a frame" * 100_000)


def replace_by_a_link(partial: Path) -> None:
    elsewhere = partial.parents[3] / "elsewhere"
    shutil.move(partial, elsewhere)
    partial.symlink_to(elsewhere)


def replace_by_a_directory(partial: Path) -> None:
    partial.unlink()
    partial.mkdir()


DAMAGES = [truncate, delete, flip_a_bit, append, replace_by_a_link, replace_by_a_directory]
AT_ITS_END = DAMAGES if FULL else [flip_a_bit, replace_by_a_link]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "damage"),
    [(IN_MID_FILE, damage) for damage in DAMAGES] + [(BEFORE_IT_HAS_ITS_NAME, damage) for damage in AT_ITS_END],
    ids=lambda value: (
        value.__name__ if callable(value) else ("in-mid-file" if value is IN_MID_FILE else "at-its-end")
    ),
)
def test_a_damaged_partial_is_made_again(
    peace: Recorder, tmp_path: Path, killed: list[str], damage: Callable[[Path], None]
) -> None:
    archive = token_hex(4)
    with Recorder(peace.servers, STREAM, tmp_path) as recorder:
        first = disturbed(recorder, killed, archive=archive)
        assert first.exit_code() == -9
        [partial] = recorder.data(archive).glob(f".archiver/{STREAM}/*_*")
        assert partial.stat().st_size > 1_000_000
        damage(partial)
        elsewhere = tmp_path / "elsewhere"
        before = elsewhere.read_bytes() if elsewhere.exists() else b""
        archiver = recorder.archiver(archive=archive)
        archiver.await_line(r"finished .* \(end\)")
        assert archiver.stop() == 0
        assert_same_tree(recorder.tree(archive), peace.tree("undisturbed"))
        assert not any(file.is_symlink() for file in recorder.files(archive))
        assert left_behind(recorder, archive) == []
        if damage is replace_by_a_link:
            assert elsewhere.read_bytes() == before
        if damage is append and killed is IN_MID_FILE:
            archiver.await_line("continuing", 0)  # what follows the committed bytes is cut off
        else:
            archiver.await_line("ERROR .*must be rebuilt", 0)
        assert "LOST" not in archiver.log


def test_it_is_made_again_with_the_settings_that_it_had(recorder: Recorder) -> None:
    """With other settings it would end before the committed offset, where no commit is allowed any more."""
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    source.start()
    source.scans(20, every=100)
    archiver = recorder.archiver()
    eventually(lambda: recorder.committed() == source.sent, "all committed")
    assert archiver.stop() == 0
    [partial] = recorder.data().glob(f".archiver/{recorder.stream}/*_*")
    flip_a_bit(partial)
    archiver = recorder.archiver("--time-per-file", "1")
    source.end()
    source.start()
    source.scans(20, every=100)
    source.end()
    archiver.await_line(r"finished .* \(end\)", count=2)
    assert archiver.stop() == 0
    archiver.await_line("ERROR .*must be rebuilt", 0)
    whys = re.findall(r"finished .* \((\w+)\)", archiver.log)
    assert whys[0] == "end", "the whole of it in one file, as it had begun"
    assert len(whys) > 2, "the next acquisition is cut each second"
    assert recorder.command("verify").returncode == 0
    replayed = recorder.directory / "replayed"
    assert recorder.command("replay", into=replayed).returncode == 0
    assert sorted(p.name for p in replayed.glob("[0-9]*/*/*.g3")) == [file.name for file in recorder.files()]
