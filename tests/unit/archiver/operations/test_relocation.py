"""An archive is moved whole, whenever that is killed, by real processes; and what is in the way is said and left."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from archiver.archive import archive_settings, identity
from archiver.archive.archive_settings import ArchiveSettings, SettingsError
from archiver.archive.location import Checksums, Location, LocationError, check_apart, located
from archiver.operations.relocation import move_archive

STOPPED_AT = Path(__file__).parents[3] / "support" / "injection" / "stopped_at.py"
SHA256SUM = shutil.which("sha256sum") or "sha256sum"
ID = "0123456789abcdef archiver\n"
FILES = {
    "15463/crate1slot2/2019-01-01-12-00-00_000.g3": b"one",
    "15463/crate1slot2/2019-01-01-12-00-00_001.g3": b"two",
    "15464/crate1slot3/2019-01-02-12-00-00_000.g3": b"three",
}
PARTIAL = "crate1slot2/15464.crate1slot2.2019-01-02-13-00-00_000.1546434000000.0123abcd"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Site:
    """An archive with files, their SHA256SUMS, an open file, and an agent's spool."""

    def __init__(self, directory: Path) -> None:
        self.data, self.elsewhere = directory / "data", directory / "private"
        for path, data in FILES.items():
            file = self.data / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            with (file.parent / "SHA256SUMS").open("a") as lines:
                lines.write(f"{sha(data)}  {file.name}\n")
        private = self.data / ".archiver"
        (private / "crate1slot2").mkdir(parents=True)
        (private / "archive.identity").write_text(ID)
        for lock in ("host-0123abcd.lock", "crate1slot2/claim.lock"):
            (private / lock).touch()
        (private / PARTIAL).write_bytes(b"open")
        (self.data / ".spool" / "crate1slot2").mkdir(parents=True)
        (self.data / ".spool" / "crate1slot2" / "lock").touch()
        (self.data / ".spool" / "crate1slot2" / "spooled").write_bytes(b"not in Kafka yet")

    def relocate(self, *, back: bool = False, checksums: Checksums | None = Checksums.PRIVATE) -> bool:
        """Move it, in this process."""
        places = located(self.data, None), located(self.data, self.elsewhere)
        source, target = reversed(places) if back else places
        return move_archive(source, target, checksums)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`archiver relocate`, as a process."""
        words = ["-m", "archiver", "relocate", "--data-dir", str(self.data), *arguments]
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)

    def foreign(self) -> list[str]:
        """What lies in the data directory besides finished files."""
        found = [str(path.relative_to(self.data)) for path in self.data.rglob("*") if not path.is_dir()]
        found += [path.name for path in self.data.iterdir() if not path.name.isdigit()]
        return sorted(set(found) - FILES.keys())

    def assert_is_elsewhere(self) -> None:
        """All of it is out of the data directory, and whole."""
        assert self.foreign() == []
        location = located(self.data, self.elsewhere)
        assert archive_settings.read(location) == ArchiveSettings(Checksums.PRIVATE)
        self._assert_whole(location)
        lines = sorted((self.elsewhere / "sha256sums.d").rglob("*"))
        assert [str(it.relative_to(self.elsewhere / "sha256sums.d")) for it in lines if it.is_file()] == [
            "15463/crate1slot2.sha256",
            "15464/crate1slot3.sha256",
        ]
        check = [SHA256SUM, "--strict", "--check", *(str(it) for it in lines if it.is_file())]
        done = subprocess.run(check, cwd=self.data, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [f"{path}: OK" for path in FILES]

    def assert_is_as_before(self) -> None:
        """All of it is where it is by default."""
        assert not self.elsewhere.exists()
        location = located(self.data, None)
        self._assert_whole(location)
        assert not (location.private_path / "sha256sums.d").exists()
        for directory in {(self.data / path).parent for path in FILES}:
            done = subprocess.run([SHA256SUM, "--strict", "--check", "SHA256SUMS"], cwd=directory, check=False)
            assert done.returncode == 0

    def _assert_whole(self, location: Location) -> None:
        assert {path: (self.data / path).read_bytes() for path in FILES} == FILES
        found = identity.read(location)
        assert found
        assert found.ids == ("0123456789abcdef",)
        assert (location.private_path / PARTIAL).read_bytes() == b"open"
        assert (location.spool_path / "crate1slot2" / "spooled").read_bytes() == b"not in Kafka yet"
        left = [path.name for path in location.private_path.iterdir() if path.is_file()]
        assert set(left) <= {"archive.identity", "archive.settings", "archive.lock", "host-0123abcd.lock"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_there_and_back(site: Site) -> None:
    assert site.relocate()
    site.assert_is_elsewhere()
    assert site.relocate(), "again, with nothing to do"
    site.assert_is_elsewhere()
    assert site.relocate(back=True, checksums=Checksums.BESIDE)
    site.assert_is_as_before()


def calls_until_done(site: Site, words: list[str], nth: int) -> bool:
    """Kill the command before its n-th call that changes something; whether it came to that."""
    script = ["kill", "before", r"^(link|rename|unlink|fsync|write) ", "--nth", str(nth), "--", "relocate"]
    command = [sys.executable, str(STOPPED_AT), *script, "--data-dir", str(site.data), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9


@pytest.mark.slow
@pytest.mark.parametrize("way", ["there", "back"])
def test_killed_at_any_call_it_goes_on_when_it_is_run_again(tmp_path: Path, way: str) -> None:
    nth, killed = 0, True
    while killed:
        nth += 1
        site = Site(tmp_path / str(nth))
        words = ["--private-dir", str(site.elsewhere), "--checksums", "private"]
        if way == "back":
            assert site.relocate()
            words = ["--from", str(site.elsewhere), "--checksums", "beside"]
        killed = calls_until_done(site, words, nth)
        assert site.relocate() if way == "there" else site.relocate(back=True, checksums=Checksums.BESIDE)
        site.assert_is_elsewhere() if way == "there" else site.assert_is_as_before()
        shutil.rmtree(tmp_path / str(nth))
    assert nth > 15


def test_interrupted_it_lets_no_archiver_start(site: Site) -> None:
    assert calls_until_done(site, ["--checksums", "private"], 12)
    location = located(site.data, None)
    for act in (archive_settings.with_settings, lambda it: archive_settings.initialize(it, None)):
        with pytest.raises(SettingsError, match=f"run again: archiver relocate --data-dir {site.data}"):
            act(location)


def test_checksums_go_without_the_rest(site: Site) -> None:
    assert site.command("--checksums", "private").returncode == 0
    assert not site.elsewhere.exists()
    assert not list(site.data.rglob("SHA256SUMS"))
    assert site.command("--checksums", "beside").returncode == 0
    site.assert_is_as_before()


def test_they_are_removed_and_what_writes_them_again_is_said(site: Site) -> None:
    assert site.command("--checksums", "off").returncode == 0
    assert not [*site.data.rglob("SHA256SUMS"), *site.data.rglob("*.sha256")]
    assert "`archiver repair` writes them" in site.command("--checksums", "private").stdout


def test_what_is_no_line_is_kept(site: Site) -> None:
    sums = site.data / "15463" / "crate1slot2" / "SHA256SUMS"
    sums.write_text(f"# signed by the night's observer\n{sums.read_text()}")
    before = sums.read_text()
    assert site.relocate()
    kept = site.elsewhere / "sha256sums.d" / "15463" / "crate1slot2.sha256.unread"
    assert kept.read_text() == before
    assert site.foreign() == []


def test_what_cannot_be_read_as_sums_is_left_and_said(site: Site) -> None:
    sums = site.data / "15463" / "crate1slot2" / "SHA256SUMS"
    sums.unlink()
    sums.symlink_to("/etc/passwd")
    done = site.command("--private-dir", str(site.elsewhere), "--checksums", "private")
    assert (done.returncode, sums.is_symlink()) == (1, True)
    assert "15463/crate1slot2: its checksums were not moved" in done.stdout


def test_directories_that_others_have_removed_come_not_back(site: Site) -> None:
    assert site.relocate()
    shutil.rmtree(site.data / "15464")
    assert site.relocate(back=True, checksums=Checksums.BESIDE)
    assert not (site.data / "15464").exists()
    assert not (site.data / ".archiver" / "sha256sums.d").exists()


@pytest.mark.parametrize(
    "lock", ["host-0123abcd.lock", "archive.lock", "crate1slot2/claim.lock", "../.spool/crate1slot2/lock"]
)
def test_while_somebody_works_on_it_nothing_is_moved(site: Site, lock: str) -> None:
    with (site.data / ".archiver" / lock).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        done = site.command("--private-dir", str(site.elsewhere))
    assert done.returncode == 1
    assert "stop that first" in done.stderr
    assert not site.elsewhere.exists()


def test_what_a_refused_start_has_left_there_is_no_obstacle(site: Site) -> None:
    site.elsewhere.mkdir()
    for name in ("host-0123abcd.lock", "archive.lock", "archive.settings"):
        (site.elsewhere / name).touch()
    assert site.relocate()
    site.assert_is_elsewhere()


def other_archive(site: Site) -> None:
    site.elsewhere.mkdir()
    (site.elsewhere / "archive.identity").write_text(ID)


def something(site: Site) -> None:
    site.elsewhere.mkdir()
    (site.elsewhere / "notes.txt").touch()


@pytest.mark.parametrize(
    ("there", "said"), [(other_archive, "are both in use"), (something, "it isn't empty: notes.txt")]
)
def test_what_is_in_the_way_is_never_replaced(site: Site, there: Callable[[Site], None], said: str) -> None:
    there(site)
    done = site.command("--private-dir", str(site.elsewhere))
    assert done.returncode == 1
    assert said in done.stderr
    assert (site.data / ".archiver" / PARTIAL).exists()


def test_on_another_mount_it_is_refused_with_the_way_out(site: Site) -> None:
    with shm() as elsewhere:
        done = site.command("--private-dir", str(elsewhere / "private"))
    assert done.returncode == 1
    assert "on another file system or mount than" in done.stderr
    assert (site.data / ".archiver" / PARTIAL).exists()


class shm:  # noqa: N801 - a context manager
    """A directory on another mount."""

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(dir="/dev/shm"))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path)


def test_nothing_to_move_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    words = ["relocate", "--data-dir", str(tmp_path / "data"), "--private-dir", str(tmp_path / "private")]
    done = subprocess.run([sys.executable, "-m", "archiver", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is an archive's private directory" in done.stderr


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    return tmp_path


@pytest.mark.parametrize(
    "private", ["data/private", "link/private", "link/.archiver", "data", "link", ".", "data/../data/x"]
)
def test_a_private_directory_may_not_lie_in_the_data_directory_nor_around_it(linked: Path, private: str) -> None:
    with pytest.raises(LocationError, match=r"--private-dir .* such as .*/data\.private"):
        check_apart(located(linked / "data", linked / private))


@pytest.mark.parametrize("private", ["data/.archiver", "data/x/../.archiver"])
def test_the_default_may_be_said(linked: Path, private: str) -> None:
    assert located(linked / "data", linked / private) == located(linked / "data", None)
