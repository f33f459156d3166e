"""An earlier version of g3-recorder, out of the repository's history, installed in an environment of its own.

It is installed as a user would have it: its packages, scripts and metadata, without its dependencies, which are those
of the tests' environment: that comes after its own packages on the path, and without the version under test, which is
installed as editable there and so isn't found by who is only pointed to the directory.
"""

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from testbed.venv import install, made_once

BEFORE_REDESIGN = "14ebb31ee4ada6657fc26fd1e03a2b030cf7bbe0"
"""The last commit with all of ingest and archiver in one folder each: 0.1.0 as it is installed at sites."""

_REPOSITORY = Path(__file__).resolve().parents[2]
_WHERE = (
    "import archiver, ingest, confluent_kafka as k; print(*(m.__file__ for m in (ingest, archiver, k)), sep='\\n')"
)


class NotInHistory(Exception):
    """The commit isn't in this clone; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """An installed version. python: its interpreter, as Program takes it. source: all files of its commit."""

    python: tuple[str, ...]
    source: Path


def earlier_version(commit: str) -> EarlierVersion:
    """That commit, installed; once for this user and the environment of the tests, which takes seconds.

    Raises NotInHistory, VenvError, IndexUnreachable.
    """
    environment = f"{sys.prefix} {sys.version}"
    name = f"g3-recorder-{commit[:7]}-{hashlib.sha256(environment.encode()).hexdigest()[:8]}"
    digest = f"{commit} {_packages_here()}"
    home = made_once(name, digest, "some seconds", lambda home: _make(home, name, commit))
    # Isolated from the current directory, which has the version under test, and from PYTHONPATH.
    found = EarlierVersion((str(home / "bin" / "python"), "-I"), home / "source")
    _check(found, home)
    return found


def _make(home: Path, name: str, commit: str) -> None:
    source = home / "source"
    source.mkdir(parents=True)
    with tempfile.TemporaryFile() as archive:
        _git("archive", "--format=tar", commit, into=archive.fileno())
        archive.seek(0)
        with tarfile.open(fileobj=archive) as files:
            files.extractall(source, filter="data")
    venv.create(home, with_pip=False)
    # This environment's pip installs there, so that the new environment has nothing but the version.
    python = str(home / "bin" / "python")
    install(name, [sys.executable, "-m", "pip", "--python", python], ["--no-deps", str(source)])
    own = subprocess.run(
        [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # What follows a directory in a .pth file comes after it on the path; .pth files in there are not read.
    Path(own.stdout.strip(), "dependencies.pth").write_text(f"{_packages_here()}\n")


def _packages_here() -> str:
    return sysconfig.get_path("purelib")


def _check(found: EarlierVersion, home: Path) -> None:
    """Its programs are its own, and not the version under test; its dependencies are shared."""
    asked = subprocess.run([*found.python, "-c", _WHERE], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    *programs, dependency = map(Path, asked.stdout.splitlines())
    packages = home / "lib"
    assert all(path.is_relative_to(packages) for path in programs), programs
    assert dependency.is_relative_to(_packages_here()), dependency


def _git(*arguments: str, into: int) -> None:
    """Run git in the repository; the last argument is a commit. Raises NotInHistory if it isn't there."""
    git = shutil.which("git")
    if git is None:
        raise NotInHistory("there is no git here, so no earlier version can be had")
    command = [git, "-C", str(_REPOSITORY), *arguments]
    done = subprocess.run(command, stdout=into, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        commit, why = arguments[-1], done.stderr.strip()
        fetch = f"`git fetch --unshallow`, or `git fetch origin {commit}`, gets it"
        raise NotInHistory(f"commit {commit[:7]} isn't in this clone's history; {fetch} ({why})")
