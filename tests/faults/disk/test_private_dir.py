"""With --private-dir the data directory has nothing in it but finished files, whatever happens; and may be moved."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archiver.archive.location import Checksums
from tests.support.archives import STOPPED_AT, Source, all_committed, assert_same_tree
from tests.support.injection.shims import compiled
from tests.support.processes import PATIENT, Program, Recorder, eventually

PATH = re.compile(r"[0-9]{5}(/[A-Za-z0-9_-]+(/[0-9-]+_[0-9]{3}\.g3)?)?")
"""A directory or a file that programs which read the data directory expect in it."""
FILES_OF_A_SECOND = ("--time-per-file", "1")
SHA256SUM = shutil.which("sha256sum") or "sha256sum"


class Site:
    """A stream, recorded twice: undisturbed, and to a data directory that may have nothing else in it."""

    def __init__(self, recorder: Recorder, checksums: Checksums | None = Checksums.PRIVATE) -> None:
        self.recorder = recorder
        self.data, self.private = recorder.data(), recorder.directory / "private"
        self.flags = ["--private-dir", str(self.private), *(["--checksums", checksums] if checksums else [])]
        recorder.create_topic()
        self.source = Source(recorder.servers, recorder.stream)
        self.undisturbed = recorder.archiver(*FILES_OF_A_SECOND, archive="undisturbed")

    def archiver(self, *flags: str) -> Program:
        """Record; flags: instead of those of the site."""
        return self.recorder.archiver(*FILES_OF_A_SECOND, *(flags or self.flags))

    def with_second_file_open(self) -> Program:
        """Record; the first file is finished, the second is open, and committed."""
        archiver = self.archiver()
        archiver.await_line(f"recording {self.recorder.stream}$")
        self.source.start()
        self.second()
        self.second()
        archiver.await_line(r"finished .* \(time\)")
        self.await_commit()
        return archiver

    def second(self, count: int = 20) -> None:
        """The frames of a file."""
        self.source.scans(count)
        self.source.now += 1000

    def await_commit(self) -> None:
        """Wait until all that was sent is recorded and committed."""
        eventually(lambda: all_committed(self.recorder, [self.source]), "all of it committed")

    def end(self, archiver: Program, count: int = 1) -> None:
        """End the acquisition; the files are the same as without faults."""
        self.second()
        self.source.end()
        for program in (archiver, self.undisturbed):
            program.await_line(r"finished .* \(end\)", count=count)
        assert "LOST" not in archiver.log
        assert_same_tree(self.files(), self.files("undisturbed"))

    def files(self, archive: str = "archive") -> dict[str, bytes]:
        """The finished files."""
        return {name: data for name, data in self.recorder.tree(archive).items() if name.endswith(".g3")}

    def command(self, name: str, *flags: str) -> "subprocess.CompletedProcess[str]":
        """Run a command with only the location flags."""
        return self.recorder.command(name, *(flags or ("--private-dir", str(self.private))))

    def assert_right(self) -> None:
        """`verify` finds nothing, and sha256sum verifies all of it."""
        verified = self.command("verify")
        assert (verified.returncode, verified.stderr) == (0, ""), verified.stdout
        assert "nothing is wrong" in verified.stdout
        assert prove(self.data, self.private) == sorted(self.files())


def prove(data: Path, private: Path) -> list[str]:
    """The paths that sha256sum verifies, in the data directory."""
    sums = sorted(str(it) for it in private.glob("sha256sums.d/*/*.sha256"))
    check = [SHA256SUM, "--strict", "--check", *sums]
    done = subprocess.run(check, cwd=data, capture_output=True, text=True, check=True)
    return sorted(line.removesuffix(": OK") for line in done.stdout.splitlines())


def foreign(data: Path) -> set[str]:
    """Unexpected paths in the data directory, as `find` prints them."""
    found = (Path(at) / name for at, directories, files in os.walk(data) for name in (*directories, *files))
    return {path for it in found if not PATH.fullmatch(path := str(it.relative_to(data)))}


@contextmanager
def nothing_foreign_in(data: Path) -> Iterator[None]:
    """Looks all the time; fails if anything unexpected was there."""
    seen: set[str] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            seen.update(foreign(data))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    assert seen == set()


@pytest.mark.slow
def test_nothing_but_files_while_it_records_is_killed_repaired_and_replayed(recorder: Recorder) -> None:
    site = Site(recorder)
    with nothing_foreign_in(site.data):
        archiver = site.with_second_file_open()
        archiver.kill()
        archiver = site.archiver()
        archiver.await_line("continuing")
        site.end(archiver)
        site.assert_right()
        assert archiver.stop() == 0
        broken, missing = sorted(site.files())[:2]
        (site.data / broken).write_bytes(b"broken")
        (site.data / missing).unlink()
        repaired = site.command("repair")
        assert repaired.returncode == 0, repaired.stdout
        site.assert_right()
        kept = site.private / recorder.stream / f"{broken.replace('/', '.')}.damaged"
        assert kept.read_bytes() == b"broken"
    rebuilt, private = recorder.data("rebuilt"), recorder.directory / "private-of-rebuilt"
    with nothing_foreign_in(rebuilt):
        where = ["--private-dir", str(private), "--checksums", "private"]
        done = recorder.command("replay", *where, into=rebuilt)
        assert done.returncode == 0, done.stdout + done.stderr
        done = recorder.command("replay", "--private-dir", str(private), into=rebuilt)
        assert "3 already there" in done.stdout
    assert_same_tree(recorder.tree("rebuilt"), site.files())
    assert prove(rebuilt, private) == sorted(site.files())


def test_without_hard_links_files_are_moved_there(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", compiled("no_link", tmp_path))
    site = Site(recorder)
    archiver = site.archiver()
    archiver.await_line(f"recording {recorder.stream}$")
    with nothing_foreign_in(site.data):
        site.source.start()
        site.second()
        site.end(archiver)
    site.assert_right()


@pytest.mark.slow
def test_a_data_directory_is_restored_from_a_backup(recorder: Recorder, tmp_path: Path) -> None:
    """From before its last file. Recording continues the open one; that file is missing, and is rebuilt."""
    site = Site(recorder)
    archiver = site.archiver()
    archiver.await_line(f"recording {recorder.stream}$")
    site.source.start()
    for count in (1, 2):
        site.second()
        site.second()
        archiver.await_line(r"finished .* \(time\)", count=count)
        backup = tmp_path / str(count)
        shutil.copytree(site.data, backup)
    site.await_commit()
    archiver.kill()
    shutil.rmtree(site.data)
    shutil.copytree(tmp_path / "1", site.data)
    archiver = site.archiver()
    archiver.await_line("continuing")
    site.second()
    site.source.end()
    for program in (archiver, site.undisturbed):
        program.await_line(r"finished .* \(end\)")
    repaired = site.command("repair")
    assert repaired.returncode == 0, repaired.stdout
    assert_same_tree(site.files(), site.files("undisturbed"))
    site.assert_right()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_data_directory_is_moved_with_a_file_open(recorder: Recorder, tmp_path: Path, how: str) -> None:
    """Nothing is lost or duplicated; the private directory has the identity of the archive."""
    site = Site(recorder)
    archiver = site.with_second_file_open()
    archiver.kill() if how == "killed" else archiver.stop()
    moved = tmp_path / "moved"
    shutil.move(site.data, moved)
    group = f"{recorder.stream}.archive"
    where = ["--data-dir", str(moved), "--group", group, "--stream", recorder.stream]
    archiver = recorder.start("archiver", *where, *PATIENT, *FILES_OF_A_SECOND, *site.flags)
    archiver.await_line("continuing")
    site.data.symlink_to(moved)
    site.end(archiver)
    assert archiver.stop() == 0
    site.data.unlink()
    shutil.move(moved, site.data)
    site.assert_right()
    verified = site.command("verify", "--against-topic", "--private-dir", str(site.private))
    assert "in the topics not recorded" not in verified.stdout
    assert verified.returncode == 0, verified.stdout
    assert foreign(site.data) == set()


@pytest.mark.slow
def test_without_checksums_there_are_none(recorder: Recorder) -> None:
    site = Site(recorder, Checksums.OFF)
    with nothing_foreign_in(site.data):
        archiver = site.archiver()
        archiver.await_line(f"recording {recorder.stream}$")
        site.source.start()
        site.end(archiver)
        assert not [*site.private.rglob("*.d"), *site.data.rglob("SHA256SUMS")]
        verified = site.command("verify")
        assert (verified.returncode, "nothing is wrong" in verified.stdout) == (0, True), verified.stdout
        [path] = site.files()
        (site.data / path).write_bytes(b"broken")
        assert "1 wrong" in site.command("verify").stdout, "its event has the digest"
        assert site.command("repair").returncode == 0
    assert_same_tree(site.files(), site.files("undisturbed"))


@pytest.mark.slow
def test_a_start_without_it_is_refused_and_leaves_nothing(kafka: str, stream: str) -> None:
    # Below a short path: of both directories a commit has 160 characters, and pytest's own may take more.
    with tempfile.TemporaryDirectory(prefix="g3") as short, Recorder(kafka, stream, Path(short)) as recorder:
        forgotten(Site(recorder), recorder)


def forgotten(site: Site, recorder: Recorder) -> None:
    archiver = site.archiver()
    archiver.await_line(f"recording {recorder.stream}$")
    site.source.start()
    site.second()
    site.await_commit()
    assert archiver.stop() == 0
    forgetful = site.archiver("--gap", "60")
    assert forgetful.exit_code() == 1
    forgetful.await_line("has its private directory elsewhere; say so:")
    forgetful.await_line(f"  --private-dir {site.private}$")
    for command in ("replay", "repair"):
        done = site.command(command, "--log-level", "info")
        assert done.returncode == 1
        assert f"--private-dir {site.private}" in done.stderr
    assert f"the archive was at {forgetful_host()}" in site.command("verify", "--log-level", "info").stdout
    assert foreign(site.data) == set()
    other = site.archiver("--private-dir", str(site.private), "--checksums", "beside")
    assert other.exit_code() == 1
    command = f"archiver relocate --data-dir {site.data} --private-dir {site.private} --checksums beside"
    other.await_line(f"has --checksums private, not beside; .* run: {re.escape(command)}")
    archiver = site.archiver("--private-dir", str(site.private))
    site.end(archiver)
    site.assert_right()


def forgetful_host() -> str:
    return os.uname().nodename


def test_two_data_directories_do_not_share_a_private_directory(recorder: Recorder, tmp_path: Path) -> None:
    """The archiver's identity is in that, so nothing else would distinguish them."""
    site = Site(recorder)
    archiver = site.archiver()
    archiver.await_line(f"recording {recorder.stream}$")
    group = ["--group", f"{recorder.stream}.archive", "--instance-id", "second"]
    second = recorder.start("archiver", "--data-dir", str(tmp_path / "second"), *group, *site.flags)
    assert second.exit_code() == 1
    second.await_line(f"with the same private directory, {site.private}, another archiver records to {site.data} now")
    third = recorder.start("archiver", "--data-dir", str(site.data), *group, *site.flags)
    third.await_line("recording to ")
    site.source.start()
    site.second()
    assert third.stop() == 0
    site.end(archiver)


def test_a_private_directory_in_the_data_directory_is_refused(recorder: Recorder) -> None:
    refused = recorder.archiver("--private-dir", str(recorder.data() / "private"))
    assert refused.exit_code() == 1
    refused.await_line("is in the data directory .*: programs that read that would find it. Choose one beside it")
    assert not recorder.data().exists()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["rename .*/private$", r"rename .*\.sha256$", r"unlink .*SHA256SUMS$"])
def test_an_archive_with_an_open_file_is_moved_there_and_back(recorder: Recorder, at: str) -> None:
    site = Site(recorder)
    archiver = site.archiver("--gap", "60")
    archiver.await_line(f"recording {recorder.stream}$")
    site.source.start()
    site.second()
    site.second()
    archiver.await_line(r"finished .* \(time\)")
    site.await_commit()
    refused = relocate(site, *site.flags)
    assert "stop that first" in refused.stderr
    archiver.kill()
    early = site.archiver()
    assert early.exit_code() == 1
    early.await_line(f"run: archiver relocate --data-dir {site.data} --private-dir {site.private}$")
    where = ["relocate", "--data-dir", str(site.data), *site.flags]
    killed = recorder.start(STOPPED_AT, "kill", "after", at, "--", *where)
    assert killed.exit_code() == -9
    done = relocate(site, *site.flags)
    assert "done" in done.stdout, done.stderr
    assert foreign(site.data) == set()
    with nothing_foreign_in(site.data):
        archiver = site.archiver()
        archiver.await_line(f"recording {recorder.stream}$")
        site.second()
        site.await_commit()
        site.assert_right()
        assert archiver.stop() == 0
    done = relocate(site, "--from", str(site.private), "--checksums", "beside")
    assert "done" in done.stdout, done.stderr
    assert not site.private.exists()
    archiver = site.archiver("--gap", "60")
    site.end(archiver)
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))
    verified = site.command("verify", "--log-level", "info")
    assert verified.returncode == 0, verified.stdout


def relocate(site: Site, *flags: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "archiver", "relocate", "--data-dir", str(site.data), *flags]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_sums_beside_files_whose_checksums_are_private_are_reported(recorder: Recorder) -> None:
    site = Site(recorder)
    archiver = site.archiver()
    archiver.await_line(f"recording {recorder.stream}$")
    site.source.start()
    site.end(archiver)
    assert archiver.stop() == 0
    [path] = site.files()
    (site.data / path).with_name("SHA256SUMS").write_text("of somebody\n")
    verified = site.command("verify")
    assert verified.returncode == 0
    assert "1 directories have a SHA256SUMS, such as" in verified.stdout
    assert relocate(site, *site.flags).returncode == 0
    assert foreign(site.data) == set()
    site.assert_right()
