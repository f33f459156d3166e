"""Whatever happened to its files, the spool opens, returns what is intact, reports what isn't, and continues."""

import errno
import logging
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from g3stream.contract.headers import Kind, RecordHeaders
from ingest.config import MIN_SPOOL_BYTES
from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import Batch
from ingest.spool.ledger import LedgerState
from ingest.spool.spool import Spool
from ingest.spool.writer import SpoolError
from tests.support.disk import small_disk

EPOCH = "00112233aabbccdd"
SIZE = 4 << 20
ALL = 1 << 40


def value(seq: int) -> bytes:
    """The value of that record: of many lengths, and different from all others."""
    return random.Random(seq).randbytes(seq * 977 % 5000)


def put(spool: Spool, first: int, beyond: int) -> None:
    """Append records with these seqs, one by one."""
    for seq in range(first, beyond):
        spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, seq), seq, value(seq))])


def read(spool: Spool) -> list[int]:
    """Read all records, check their values, and return their seqs."""
    seqs = []
    for batch in spool.reader.read(-1, ALL):
        for record in batch.records:
            assert record.value == value(record.time_ms)
            seqs.append(record.time_ms)
    return seqs


def keys(batches: list[Batch]) -> list[int]:
    return [batch.key for batch in batches]


def files(directory: Path) -> list[Path]:
    """The spool's data files, in order."""
    return sorted((directory / "spool").iterdir())


def leave(directory: Path, first: int, beyond: int) -> None:
    """Append these records in a process that then ends as if it were killed."""
    code = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1].split(os.pathsep)
from tests.unit.ingest.test_spool_damaged import SIZE, Spool, put
put(Spool(Path(sys.argv[2]), SIZE), int(sys.argv[3]), int(sys.argv[4]))
os._exit(0)
"""
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", code, path, str(directory), str(first), str(beyond)], check=True)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool with 300 records in several files, left by an ingest that was killed."""
    directory = tmp_path_factory.mktemp("original")
    leave(directory, 0, 300)
    assert len(files(directory)) > 4
    return directory


@pytest.fixture
def left(original: Path, tmp_path: Path) -> Path:
    """A copy of `original`."""
    return Path(shutil.copytree(original, tmp_path / "left"))


# -- one thing at a time --------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def directory_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [flip, cut, empty, garbage, directory_instead])
@pytest.mark.parametrize("which", [0, 2, -1], ids=["first", "middle", "last"])
def test_what_is_intact_is_read_and_the_damaged_file_is_moved_away(
    left: Path, damage: Callable[[Path], None], which: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = files(left)[which]
    damage(path)
    with Spool(left, SIZE) as spool:
        assert spool.previous == (EPOCH, 299), "so that the archiver sees what is missing, at the end too"
        put(spool, 300, 310)
        found = spool.reader.read(-1, ALL)
        seqs = read(spool)
        missing = set(range(310)) - set(seqs)
        assert seqs == sorted(set(seqs))
        assert set(range(300, 310)) <= set(seqs)
        assert len(missing) == spool.ledger.unreadable_batches == 310 - spool.ledger.waiting_batches
        assert len(missing) == 1 if damage is flip else 1 < len(missing) < 100
        reports = [line for line in caplog.records if "is damaged" in line.message]
        assert [line.levelno for line in reports] == [logging.ERROR]
        assert re.search(f"{path.name[:20]}.* is damaged: {len(missing)} batches", reports[0].message)
        spool.acknowledge(keys(found))
        assert (spool.ledger.waiting_batches, spool.ledger.waiting_bytes) == (0, 0)
        assert spool.reader.read(-1, ALL) == []
        assert spool.ledger.next_unacked(0) is None
    (moved,) = (left / "damaged").iterdir()
    assert moved.name.startswith(path.name[:20])
    with Spool(left, SIZE) as spool:
        assert (read(spool), spool.ledger.waiting_batches, spool.ledger.unreadable_batches) == ([], 0, 0)
        assert spool.previous == (EPOCH, 309)
    assert moved.exists(), "ingest never deletes it"


def test_a_damaged_file_is_kept_even_if_it_cannot_be_put_elsewhere(left: Path) -> None:
    path = files(left)[1]
    flip(path)
    (left / "damaged").write_bytes(b"in the way")
    for unreadable in (1, 0):
        with Spool(left, SIZE) as spool:
            found = spool.reader.read(-1, ALL)
            assert spool.ledger.unreadable_batches == unreadable
            spool.acknowledge(keys(found))
    (kept,) = files(left)
    assert kept.name.startswith(path.name[:20])


def test_there_is_no_more_where_all_is_lost(left: Path) -> None:
    empty(files(left)[-1])
    with Spool(left, SIZE) as spool:
        last = spool.reader.read(-1, ALL)[-1].key
        assert spool.ledger.next_unacked(last + 1) is None
        put(spool, 300, 301)
        assert spool.ledger.next_unacked(last + 1)
        assert [record.time_ms for batch in spool.reader.read(last, ALL) for record in batch.records] == [300]


def test_without_its_ledger_it_finds_the_last_record_and_reports_that_a_tail_may_be_lost(
    left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for how in (flip, empty, garbage, directory_instead, Path.unlink):
        copy = left.parent / f"{left.name}-{how.__name__}"
        shutil.copytree(left, copy)
        how(copy / "state")
        caplog.clear()
        with Spool(copy, SIZE) as spool:
            assert (spool.previous, spool.unclean_shutdown) == ((EPOCH, 299), True), how
            assert read(spool) == list(range(300))
            put(spool, 300, 301)
            assert read(spool) == list(range(301))
        assert "state is damaged" in caplog.text or how is Path.unlink
        with Spool(copy, SIZE) as spool:
            assert (spool.previous, spool.unclean_shutdown) == ((EPOCH, 300), False)


def test_missing_files_are_noticed_by_what_follows(left: Path) -> None:
    for path in files(left):
        path.unlink()
    with Spool(left, SIZE) as spool:
        assert (spool.ledger.waiting_batches, spool.previous) == (0, (EPOCH, 299))
        put(spool, 300, 301)
        assert read(spool) == [300]


def test_an_older_copy_gives_what_it_had(left: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(left, copy)
    with Spool(left, SIZE) as spool:
        put(spool, 300, 400)
        spool.acknowledge(keys(spool.reader.read(-1, ALL)))
    shutil.rmtree(left)
    copy.rename(left)
    with Spool(left, SIZE) as spool:
        assert spool.previous == (EPOCH, 299)
        assert read(spool) == list(range(300))


# -- killed during a write ------------------------------------------------------------------------------------


@pytest.mark.parametrize("beneath", [0, 4 << 20], ids=["new", "recycled"])
def test_an_append_that_a_kill_cut_is_not_there_and_is_no_damage(
    beneath: int, left: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """beneath: how many bytes the file had before it was overwritten."""
    old = random.Random(2).randbytes(beneath)
    state = (left / "state").read_bytes()
    file = files(left)[-1]
    before = file.stat().st_size
    with Spool(left, SIZE) as spool:
        spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 300), 300, bytes(3 << 20))])
        written = files(left)[-1].read_bytes()
    for cut_at in (1, 31, 32, 36, 40, 1 << 20, (1 << 20) + 200, len(written) - 1):
        copy = left.parent / f"{left.name}-{cut_at}"
        (copy / "spool").mkdir(parents=True)
        (copy / "state").write_bytes(state)
        for path in files(left)[:-1]:
            shutil.copy(path, copy / "spool")
        name = files(left)[-1].name
        end = name.split(".")[0].split("-")[0]
        (copy / "spool" / name.replace(name.split(".")[0], end)).write_bytes(written[:cut_at] + old[cut_at:])
        for _ in range(2):
            with Spool(copy, SIZE) as spool:
                assert spool.previous == (EPOCH, 299)
                assert read(spool) == list(range(300)), cut_at
                assert spool.ledger.unreadable_batches == 0
    assert before > 0
    assert "damaged" not in caplog.text


def test_what_was_written_but_is_not_yet_in_the_ledger_is_there(left: Path) -> None:
    state = (left / "state").read_bytes()
    put_on = left.parent / f"{left.name}-more"
    shutil.copytree(left, put_on)
    leave(put_on, 300, 302)
    (put_on / "state").write_bytes(state)
    with Spool(put_on, SIZE) as spool:
        assert spool.previous == (EPOCH, 301)
        assert read(spool) == list(range(302))
        put(spool, 302, 303)
        assert read(spool) == list(range(303))


def test_a_first_start_that_was_killed_at_once_left_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "state").touch()
    with Spool(tmp_path, SIZE) as spool:
        assert (spool.previous, spool.unclean_shutdown) == (None, False)
    assert not caplog.messages


# -- a full disk, and one that fails --------------------------------------------------------------------------


def fill(spool: Spool, first: int) -> int:
    """Append records until the disk is full. Returns the seq of the one that failed."""
    while True:
        try:
            put(spool, first, first + 1)
        except SpoolError:
            return first
        first += 1


def test_on_a_full_disk_nothing_is_half_there_and_removing_makes_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, Spool(disk / "s", 64 << 20) as spool:
        n = 0
        for _ in range(4):
            n = fill(spool, n)
            with pytest.raises(SpoolError, match=r"can't be written: .*No space"):
                spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, n), n, bytes(1 << 20))])
            seqs = read(spool)
            assert seqs[-1] == n - 1
            assert spool.ledger.waiting_batches == len(seqs)
            # The last file is the only one, and takes all the space: it is removed when all of it is acknowledged.
            spool.acknowledge(keys(spool.reader.read(-1, ALL)))
            assert spool.ledger.waiting_batches == 0
            put(spool, n, n + 1)
            assert read(spool) == [n]
            n += 1


def test_a_start_on_a_full_disk_reads_what_is_there(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk:
        with Spool(disk / "s", 64 << 20) as spool:
            n = fill(spool, 0)
            (disk / "other").write_bytes(b"")
        with Spool(disk / "s", 64 << 20) as spool:
            assert spool.previous == (EPOCH, n - 1)
            with pytest.raises(SpoolError):
                spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, n), n, bytes(1 << 20))])
            assert read(spool) == list(range(n))
            spool.acknowledge(keys(spool.reader.read(-1, ALL)))
            put(spool, n, n + 5)
            assert read(spool) == list(range(n, n + 5))


def test_a_spare_file_that_cannot_be_opened_is_not_left_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path / "s", MIN_SPOOL_BYTES) as spool:
        spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 0), 0, bytes(40_000))])
        spool.acknowledge(keys(spool.reader.read(-1, ALL)))
        spare = tmp_path / "s" / "spool" / "spare"
        assert spare.exists()
        with monkeypatch.context() as too_many:
            too_many.setattr(os, "open", no_more)
            with pytest.raises(SpoolError, match="Too many open files"):
                put(spool, 1, 2)
        put(spool, 1, 2)
        assert len(files(tmp_path / "s")) == 1, "of two that begin with one key, a start takes one to be empty"
        killed = shutil.copytree(tmp_path / "s", tmp_path / "killed")
    with Spool(killed, MIN_SPOOL_BYTES) as spool:
        assert read(spool) == [1]


def no_more(*_arguments: object) -> int:
    """Fail as `os.open` does when the process has reached its limit of open files."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_what_comes_after_it_was_closed_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, SIZE)
    put(spool, 0, 1)
    spool.close()
    before = [(path.name, path.read_bytes()) for path in (*files(tmp_path), tmp_path / "state")]
    with pytest.raises(SpoolError, match="is closed"):
        put(spool, 1, 2)
    assert [(path.name, path.read_bytes()) for path in (*files(tmp_path), tmp_path / "state")] == before


def test_a_sync_that_fails_is_reported_once_and_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    syncs = 0
    really = os.fdatasync

    def failing(fd: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs <= 3:
            raise OSError(5, "Input/output error")
        really(fd)

    monkeypatch.setattr("ingest.spool.group_sync._DELAY_SECONDS", 0.01)
    monkeypatch.setattr(os, "fdatasync", failing)
    with Spool(tmp_path, SIZE) as spool:
        put(spool, 0, 1)
        while syncs < 4:
            spool.ledger.wait_for_freed_space(0.01)
    assert caplog.text.count("can't be made durable") == 1


def test_that_it_was_opened_is_recorded_before_anything_is_appended(tmp_path: Path) -> None:
    Spool(tmp_path, SIZE).close()
    with Spool(tmp_path, SIZE):
        state = LedgerState.unpacked((tmp_path / "state").read_bytes())
        assert state
        assert not state.clean_shutdown
        assert state.boot_id == Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()


# -- anything at all ------------------------------------------------------------------------------------------


def test_random_damage_never_stops_it(left: Path, dice: random.Random) -> None:
    for turn in range(30):
        copy = left.parent / f"{left.name}-{turn}"
        shutil.copytree(left, copy)
        for _ in range(dice.randrange(1, 6)):
            spoil(dice.choice([*files(copy), copy / "state"]), dice)
        with Spool(copy, SIZE) as spool:
            ledger_missing = spool.previous is None
            put(spool, 1000, 1010)
            seqs = read(spool)
            assert seqs == sorted(set(seqs))
            assert seqs[-10:] == list(range(1000, 1010))
            assert set(seqs) <= {*range(300), *range(1000, 1010)}
            assert ledger_missing or spool.previous is not None
            spool.acknowledge(keys(spool.reader.read(-1, ALL)))
            assert spool.ledger.waiting_batches == 0
            put(spool, 1010, 1020)
        with Spool(copy, SIZE) as spool:
            assert read(spool) == list(range(1010, 1020))
            assert spool.previous == (EPOCH, 1019)
        shutil.rmtree(copy)


def spoil(path: Path, dice: random.Random) -> None:
    """Damage a file as disks, file systems and people do."""
    if not path.is_file():
        return
    data = bytearray(path.read_bytes())
    at = dice.randrange(len(data) + 1)
    beyond = min(len(data), at + dice.choice([1, 4096, 1 << 20]))
    what = dice.choice(["flip", "zeros", "garbage", "cut", "more", "gone", "empty", "twice", "moved"])
    if what == "flip" and at < len(data):
        data[at] ^= 1 << dice.randrange(8)
    elif what == "zeros":
        data[at:beyond] = bytes(beyond - at)
    elif what == "garbage":
        data[at:beyond] = dice.randbytes(beyond - at)
    elif what == "cut":
        del data[at:]
    elif what == "more":
        data += dice.randbytes(dice.randrange(100_000))
    elif what == "empty":
        data.clear()
    elif what == "twice":
        data[at:at] = data[at:beyond]
    elif what == "moved":
        del data[at:beyond]
    path.write_bytes(data)
    if what == "gone":
        path.unlink()
