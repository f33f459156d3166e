"""What was reported durable is there, damage is found, and a finished file appears whole and once."""

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import google_crc32c
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot, unlocked_partials
from archiver.segments import segment_file
from archiver.segments.segment_file import PartialDamagedError, PartialLockedError, SegmentClosedError, SegmentFile
from archiver.storage.directory import Directory
from g3stream.service.cancellation import CancellationToken
from tests.support.disk import small_disk

PATH = "15463/crate1slot2/2019-01-01-12-00-00_000.g3"


def crc_of(data: bytes) -> int:
    crc: int = google_crc32c.value(data)
    return crc


def sha_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """Where a partial may be made."""
    directory = tmp_path / ".archiver" / "crate1slot2"
    directory.mkdir(parents=True)
    return directory / "15463.crate1slot2.2019-01-01-12-00-00_000.1546344000123.0123abcd"


def create(path: Path, *, md5: bool = False) -> SegmentFile:
    """A new partial."""
    with Directory(path.parent, "") as directory:
        return SegmentFile.create(directory, path.name, md5=md5)


def reopen(path: Path, length: int, crc: int, *, md5: bool = False) -> SegmentFile:
    """A partial that a killed archiver has left."""
    with Directory(path.parent, "") as directory:
        return SegmentFile.reopen(directory, path.name, length, crc, md5=md5)


def copy(path: Path, new: Path, length: int, crc: int, *, md5: bool = False) -> SegmentFile:
    """A copy of a partial that is locked."""
    with Directory(path.parent, "") as directory:
        return SegmentFile.copy(directory, path.name, new.name, length, crc, CancellationToken(), md5=md5)


def publish(partial: Path, root: Path, path: str, data: bytes) -> str | None:
    """The path that it got, as a file with those bytes."""
    archive = ArchiveRoot(Location(root), "archiver", "host")
    content = len(data), sha_of(data)
    return archive.publish(partial.parent.name, partial.name, path, *content, CancellationToken())


def written(path: Path, *parts: bytes) -> SegmentFile:
    """A new partial with these, durable."""
    file = create(path)
    file.write(parts)
    file.flush()
    file.make_durable()
    return file


def left(path: Path, data: bytes, more: bytes = b"") -> int:
    """A partial as a killed archiver leaves it: `data` committed, `more` written; returns the committed CRC."""
    file = written(path, data)
    crc = file.crc
    file.write([more])
    file.flush()
    file.close()
    return crc


# Growing


def test_it_holds_what_was_written_and_knows_its_digests(partial: Path) -> None:
    file = create(partial)
    file.write([b"one", b"", b"two"])
    assert (file.length_bytes, file.written_bytes) == (6, 0)
    file.flush()
    assert (file.length_bytes, file.written_bytes) == (6, 6)
    assert partial.read_bytes() == b"onetwo"
    assert file.crc == crc_of(b"onetwo")
    file.write([b"three"])
    assert file.crc == crc_of(b"onetwo")
    file.flush()
    assert file.crc == crc_of(b"onetwothree")
    assert file.sha256() == sha_of(b"onetwothree")
    file.close()


def test_its_md5_is_taken_only_if_it_is_asked_for(partial: Path) -> None:
    for asked in (True, False):
        file = create(partial, md5=asked)
        file.write([b"one", b"two"])
        file.flush()
        file.advance_digest(3)
        file.sha256()
        assert file.md5 == (hashlib.md5(b"onetwo", usedforsecurity=False).hexdigest() if asked else None)
        file.close()
        partial.unlink()


def test_after_a_restart_its_md5_is_that_of_all_its_bytes(partial: Path) -> None:
    crc = left(partial, b"onetwo", b"never committed")
    whole = hashlib.md5(b"onetwothree", usedforsecurity=False).hexdigest()
    with closing(reopen(partial, 6, crc, md5=True)) as file:
        copied = copy(partial, partial.with_name("copy"), 6, crc, md5=True)
        for one in (file, copied):
            one.write([b"three"])
            one.flush()
            one.sha256()
            assert one.md5 == whole
        copied.close()


def test_an_empty_file_has_the_digests_of_nothing(partial: Path) -> None:
    file = create(partial)
    file.write([b"", b""])
    file.flush()
    assert (file.crc, file.sha256()) == (0, sha_of(b""))
    file.close()


def test_more_parts_than_one_call_takes_are_written_in_order(partial: Path) -> None:
    parts = [b"%d," % n if n % 3 else b"" for n in range(5_000)]
    file = written(partial, *parts)
    assert partial.read_bytes() == b"".join(parts)
    assert file.sha256() == sha_of(b"".join(parts))
    file.close()


def test_a_partial_is_never_made_over_another_nor_through_a_link(partial: Path, tmp_path: Path) -> None:
    written(partial, b"first").close()
    with pytest.raises(FileExistsError):
        create(partial)
    assert partial.read_bytes() == b"first"
    link = partial.with_name("link")
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="link"):
        create(link)
    with pytest.raises(PartialDamagedError, match="no file"):
        reopen(link, 0, 0)
    assert not (tmp_path / "elsewhere").exists()


def test_writing_and_syncing_may_happen_at_the_same_time(partial: Path) -> None:
    blocks = [bytes([n]) * 10_007 for n in range(200)]
    file = create(partial)
    over = threading.Event()

    def make_durable() -> None:
        while not over.is_set():
            file.make_durable()
            file.advance_digest(file.written_bytes)

    thread = threading.Thread(target=make_durable)
    thread.start()
    for block in blocks:
        file.write([block])
        file.flush()
    over.set()
    thread.join()
    data = b"".join(blocks)
    assert (file.crc, file.sha256()) == (crc_of(data), sha_of(data))
    file.close()


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.lists(st.binary(max_size=50), max_size=4), st.sampled_from("fdsr"))))
def test_whatever_is_done_to_it_the_bytes_and_digests_are_right(
    tmp_path_factory: pytest.TempPathFactory, acts: list[tuple[list[bytes], str]]
) -> None:
    """f: flush. d: make durable. s: and compute the digest. r: killed after a commit, and reopened."""
    partial = tmp_path_factory.mktemp("any") / "x_000.1546344000123.0123abcd"
    file, committed, crc = create(partial), b"", 0
    pending = b""
    for parts, act in acts:
        file.write(parts)
        pending += b"".join(parts)
        assert file.length_bytes == len(committed) + len(pending)
        if act == "r":
            file.close()
            file, pending = reopen(partial, len(committed), crc), b""
            continue
        file.flush()
        if act in "ds":
            committed, pending = committed + pending, b""
            file.make_durable()
            crc = file.crc
            assert crc == crc_of(committed)
        if act == "s":
            assert file.sha256() == sha_of(committed)
    file.flush()
    assert file.sha256() == sha_of(committed + pending)
    assert partial.read_bytes() == committed + pending
    file.close()


# A full disk


def test_on_a_full_disk_nothing_is_lost_and_it_continues_when_there_is_room(tmp_path: Path) -> None:
    parts = [bytes([n]) * 7_001 for n in range(30)]
    data = b"".join(parts)
    with small_disk(tmp_path / "disk", "256k") as disk:
        other = disk / "other"
        other.write_bytes(bytes(150_000))
        file = create(disk / "x_000.1546344000123.0123abcd")
        try:
            file.write(parts[:20])
            for _ in range(3):
                with pytest.raises(OSError, match="No space") as full:
                    file.flush()
                assert full.value.errno == errno.ENOSPC
                assert file.length_bytes == 20 * 7_001
                assert 0 < file.written_bytes < file.length_bytes, "what found room is written"
            file.make_durable()
            assert file.crc == crc_of(data[: file.written_bytes]), "and can be committed"
            file.write(parts[20:])
            other.unlink()
            file.flush()
            assert file.written_bytes == file.length_bytes == len(data)
            assert file.sha256() == sha_of(data)
            assert (disk / "x_000.1546344000123.0123abcd").read_bytes() == data
        finally:
            file.close()


def test_a_copy_for_which_there_is_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        crc = left(disk / "x_000.1546344000123.0123abcd", bytes(150_000))
        new = disk / "x_000.89ab4567"
        with pytest.raises(OSError, match="No space"):
            copy(disk / "x_000.1546344000123.0123abcd", new, 150_000, crc)
        assert not new.exists()


# After a restart


def test_reopened_it_is_cut_to_what_was_committed_and_continues(partial: Path) -> None:
    crc = left(partial, b"committed", b" and torn")
    file = reopen(partial, 9, crc)
    assert partial.read_bytes() == b"committed"
    file.write([b" and on"])
    file.flush()
    assert file.crc == crc_of(b"committed and on")
    assert file.sha256() == sha_of(b"committed and on")
    assert partial.read_bytes() == b"committed and on"
    file.close()


@pytest.mark.parametrize("length", [4 << 20, (4 << 20) + 1, (9 << 20) - 1])
def test_a_digest_is_right_over_many_blocks_and_a_restart(partial: Path, length: int) -> None:
    data = os.urandom(1 << 10) * (length // (1 << 10)) + b"x" * (length % (1 << 10))
    crc = left(partial, data)
    assert crc == crc_of(data)
    file = reopen(partial, length, crc)
    file.write([data])
    file.flush()
    assert file.crc == crc_of(data + data)
    assert file.sha256() == sha_of(data + data)
    file.close()


def test_missing_or_short_it_cannot_be_reopened(partial: Path) -> None:
    with pytest.raises(PartialDamagedError, match="missing"):
        reopen(partial, 0, 0)
    crc = left(partial, b"committed")
    os.truncate(partial, 8)
    with pytest.raises(PartialDamagedError, match="8 bytes of 9"):
        reopen(partial, 9, crc)
    assert partial.read_bytes() == b"committe"
    reopen(partial, 8, crc_of(b"committe")).close()  # it is no longer locked


@pytest.mark.parametrize("at", [0, 5, 8])
def test_changed_bytes_are_found_before_its_digest_is_given(partial: Path, at: int) -> None:
    crc = left(partial, b"committed")
    with partial.open("r+b") as damaged:
        damaged.seek(at)
        damaged.write(b"X")
    file = reopen(partial, 9, crc)
    file.write([b" and on"])
    file.flush()
    with pytest.raises(PartialDamagedError, match="first 9 bytes have changed"):
        file.sha256()
    file.close()
    again = reopen(partial, 9, crc)
    with pytest.raises(PartialDamagedError, match="first 9 bytes have changed"):
        again.advance_digest(9)
    again.close()


def test_changed_bytes_are_found_each_time(partial: Path) -> None:
    crc = left(partial, b"committed")
    partial.write_bytes(b"Xommitted")
    file = reopen(partial, 9, crc)
    try:
        for _ in range(2):
            with pytest.raises(PartialDamagedError):
                file.sha256()
    finally:
        file.close()


def test_what_happens_to_it_under_our_hands_is_damage_not_a_wrong_digest(partial: Path) -> None:
    def cut(path: Path) -> None:
        os.truncate(path, 6)

    def cut_and_written_on(path: Path) -> None:
        os.truncate(path, 6)
        os.truncate(path, 13)

    def longer(path: Path) -> None:
        os.truncate(path, 14)

    for change in (cut, cut_and_written_on, longer):
        file = written(partial, b"here", b" and gone")
        change(partial)
        with pytest.raises(PartialDamagedError, match=r"ends at 6 bytes|aren't those that were written"):
            file.sha256()
        file.close()
        partial.unlink()


# Locked by another process

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "r+b", buffering=0)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
file.seek(int(sys.argv[2]))
file.write(b"zombie")
print("written", flush=True)
sys.stdin.readline()
"""


@contextmanager
def held(path: Path, writes_at: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Another process has it locked; a line to its stdin makes it write there, as when it thaws."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(writes_at)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == b"held\n"
        yield holder
    finally:
        holder.kill()
        holder.communicate()


def test_it_is_closed_within_a_block_while_its_digest_is_read(partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, places = os.pread, []
    reading, wanted = threading.Event(), threading.Event()

    class Lock:
        """A lock that reports when this thread waits for it, to close the file."""

        def __init__(self) -> None:
            self._lock = threading.RLock()

        def __enter__(self) -> None:
            if threading.current_thread() is test:
                wanted.set()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    def until_it_is_let_go_of(fd: int, length: int, at: int) -> bytes:
        places.append(at)
        reading.set()
        assert wanted.wait(30)
        return read(fd, length, at)

    test = threading.current_thread()
    monkeypatch.setattr(segment_file, "_BLOCK", 16)
    with monkeypatch.context() as its_own:
        its_own.setattr(threading, "Lock", Lock)
        file = create(partial)
    monkeypatch.setattr(os, "pread", until_it_is_let_go_of)
    file.write([bytes(16 * 1000)])
    file.flush()
    with ThreadPoolExecutor() as pool:
        digest = pool.submit(file.sha256)
        reading.wait()
        file.close()
        with pytest.raises(SegmentClosedError):
            digest.result()
    assert places == [0], "of the blocks none is read after that one"


def test_what_another_process_holds_cannot_be_reopened_and_stays_as_it_is(partial: Path) -> None:
    crc = left(partial, b"committed", b" and its own")
    with held(partial):
        with pytest.raises(PartialLockedError):
            reopen(partial, 9, crc)
        assert partial.read_bytes() == b"committed and its own"
    reopen(partial, 9, crc).close()  # a lock ends with its process


def test_an_open_one_is_locked(partial: Path) -> None:
    file = written(partial, b"x")
    with pytest.raises(PartialLockedError):
        reopen(partial, 1, crc_of(b"x"))
    file.close()
    reopen(partial, 1, crc_of(b"x")).close()


def test_a_copy_is_unaffected_by_what_the_holder_does_later(partial: Path) -> None:
    crc = left(partial, b"committed", b" and its own")
    new = partial.with_name("2019-01-01-12-00-00_000.89ab4567")
    with held(partial, writes_at=3) as holder:
        file = copy(partial, new, 9, crc)
        assert holder.stdin
        assert holder.stdout
        holder.stdin.write(b"\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == b"written\n"
        file.write([b" and on"])
        file.flush()
        assert file.crc == crc_of(b"committed and on")
        assert file.sha256() == sha_of(b"committed and on")
        assert new.read_bytes() == b"committed and on"
        with pytest.raises(PartialLockedError):
            reopen(new, 9, crc)
        file.close()


def test_a_copy_of_changed_bytes_is_found_out(partial: Path) -> None:
    crc = left(partial, b"committed")
    partial.write_bytes(b"Xommitted")
    file = copy(partial, partial.with_name("x_000.89ab4567"), 9, crc)
    with pytest.raises(PartialDamagedError, match="have changed"):
        file.sha256()
    file.close()


def test_what_is_short_cannot_be_copied(partial: Path) -> None:
    left(partial, b"short")
    with pytest.raises(PartialDamagedError):
        copy(partial, partial.with_name("x_000.89ab4567"), 9, 0)


# Published


def finished(partial: Path, data: bytes) -> bytes:
    """A complete partial; returns its bytes."""
    written(partial, data).close()
    return data


def test_a_directory_that_is_removed_at_the_wrong_instant_is_made_again(
    partial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a clean-up job does with an empty directory; the partial isn't taken for a missing one."""
    data = finished(partial, b"whole")
    given = Directory.publish

    def cleaned_up(directory: Directory, name: str, to: Directory, new: str) -> None:
        (tmp_path / PATH).parent.rmdir()
        given(directory, name, to, new)

    with monkeypatch.context() as changes:
        changes.setattr(Directory, "publish", cleaned_up)
        with pytest.raises(FileNotFoundError, match="removed just now"):
            publish(partial, tmp_path, PATH, data)
    assert publish(partial, tmp_path, PATH, data) == PATH, "again, as it is tried each second"


def test_published_it_has_its_name_and_all_its_bytes(partial: Path, tmp_path: Path, links: str) -> None:
    data = finished(partial, b"whole")
    inode = partial.stat().st_ino
    assert publish(partial, tmp_path, PATH, data) == PATH
    assert (tmp_path / PATH).read_bytes() == b"whole"
    assert (tmp_path / PATH).stat().st_ino == inode, "the very file: at no time is a part of it under the name"
    assert partial.exists() == (links == "hard links")
    assert publish(partial, tmp_path, PATH, data) == PATH, "again, as after a kill"
    partial.unlink(missing_ok=True)
    assert publish(partial, tmp_path, PATH, data) == PATH, "again, after the last step"
    assert [entry.name for entry in (tmp_path / PATH).parent.iterdir()] == [Path(PATH).name]


@pytest.mark.usefixtures("links")
def test_neither_partial_nor_name_is_none(partial: Path, tmp_path: Path) -> None:
    assert publish(partial, tmp_path, PATH, b"gone") is None


@pytest.mark.usefixtures("links")
def test_a_partial_gone_and_the_name_anothers_is_none(partial: Path, tmp_path: Path) -> None:
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"not ours")
    assert publish(partial, tmp_path, PATH, b"gone") is None
    assert (tmp_path / PATH).read_bytes() == b"not ours"


@pytest.mark.usefixtures("links")
def test_a_name_taken_by_the_same_bytes_is_this_file(partial: Path, tmp_path: Path) -> None:
    data = finished(partial, b"same")
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"same")
    before = (tmp_path / PATH).stat().st_ino
    assert publish(partial, tmp_path, PATH, data) == PATH
    assert (tmp_path / PATH).stat().st_ino == before


@pytest.mark.usefixtures("links")
def test_a_name_taken_by_others_is_left_and_the_next_free_one_taken(partial: Path, tmp_path: Path) -> None:
    data = finished(partial, b"ours")
    directory = (tmp_path / PATH).parent
    directory.mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"not ours")
    (directory / "2019-01-01-12-00-00_001.g3").mkdir()
    (directory / "copy").write_bytes(b"ours")
    (directory / "2019-01-01-12-00-00_002.g3").symlink_to("copy")
    free = PATH.replace("_000", "_003")
    for _ in range(2):
        assert publish(partial, tmp_path, PATH, data) == free
    partial.unlink(missing_ok=True)
    assert publish(partial, tmp_path, PATH, data) == free
    assert (tmp_path / PATH).read_bytes() == b"not ours"
    assert (tmp_path / free).read_bytes() == data


@pytest.mark.usefixtures("links")
def test_a_link_to_nothing_is_a_taken_name(partial: Path, tmp_path: Path) -> None:
    data = finished(partial, b"ours")
    (tmp_path / PATH).parent.mkdir(parents=True)
    (tmp_path / PATH).symlink_to("nowhere")
    free = PATH.replace("_000", "_001")
    assert publish(partial, tmp_path, PATH, data) == free
    partial.unlink(missing_ok=True)
    assert publish(partial, tmp_path, PATH, data) == free


@pytest.mark.usefixtures("links")
def test_the_number_after_999_has_four_digits(partial: Path, tmp_path: Path) -> None:
    data = finished(partial, b"ours")
    last = PATH.replace("_000", "_999")
    (tmp_path / last).parent.mkdir(parents=True)
    (tmp_path / last).write_bytes(b"not ours")
    assert publish(partial, tmp_path, last, data) == PATH.replace("_000", "_1000")


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("theirs", ["a terabyte", "a named pipe", "as long as ours, not to be read"])
def test_a_name_taken_by_what_cannot_be_read_is_anothers_at_once(partial: Path, tmp_path: Path, theirs: str) -> None:
    data = finished(partial, b"ours")
    taken = tmp_path / PATH
    taken.parent.mkdir(parents=True)
    if theirs == "a named pipe":
        os.mkfifo(taken)
    else:
        with taken.open("wb") as file:
            file.truncate(1 << 40 if theirs == "a terabyte" else len(data))
    if theirs.endswith("read"):
        taken.chmod(0)
        if os.access(taken, os.R_OK):
            pytest.skip("root reads everything")
    free = PATH.replace("_000", "_001")
    assert publish(partial, tmp_path, PATH, data) == free
    partial.unlink(missing_ok=True)
    assert publish(partial, tmp_path, PATH, data) == free, "again, after the last step"


def test_a_file_where_a_directory_should_be_is_an_oserror(partial: Path, tmp_path: Path) -> None:
    data = finished(partial, b"ours")
    (tmp_path / "15463").write_bytes(b"")
    with pytest.raises(OSError, match="15463"):
        publish(partial, tmp_path, PATH, data)


@pytest.mark.usefixtures("links")
def test_nothing_is_published_through_a_link(partial: Path, tmp_path: Path) -> None:
    data = finished(partial, b"ours")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "15463").mkdir()
    (tmp_path / "15463" / "crate1slot2").symlink_to(elsewhere)
    with pytest.raises(OSError, match="a link or a file is where a directory should be"):
        publish(partial, tmp_path, PATH, data)
    assert list(elsewhere.iterdir()) == []


def test_those_that_nobody_holds(partial: Path) -> None:
    finished(partial, b"x")
    other = partial.with_name("15463.crate1slot2.2019-01-01-12-00-00_001.1546344000123.0123abcd")
    finished(other, b"x")
    for name in ("notes", "15463.crate1slot2.2019-01-01-12-00-00_001.1546344000123.0123abcd.damaged"):
        partial.with_name(name).write_bytes(b"")
    partial.with_name("15463.crate1slot2.2019-01-01-12-00-00_002.1546344000123.0123abcd").symlink_to(partial)
    partial.with_name("15463.crate1slot2.2019-01-01-12-00-00_003.1546344000123.0123abcd").mkdir()
    with Directory(partial.parent, "") as directory:
        assert unlocked_partials(directory, sorted(directory.names())) == [partial.name, other.name]
        with held(partial):
            assert unlocked_partials(directory, sorted(directory.names())) == [other.name]


def test_one_that_may_not_be_read_is_left_out(partial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(partial, b"x")
    real = Directory.open

    def refused(directory: Directory, name: str, flags: int) -> int:
        if name == partial.name:
            raise PermissionError(errno.EACCES, "Permission denied", name)
        return real(directory, name, flags)

    monkeypatch.setattr(Directory, "open", refused)  # root, whom tests may be run by, may read everything
    with Directory(partial.parent, "") as directory:
        assert unlocked_partials(directory, sorted(directory.names())) == []
