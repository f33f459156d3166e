"""An earlier version of g3-recorder from the repository's history, installed in an environment of its own.

It is installed as at a site, with its packages, scripts and metadata, but uses the dependencies of the tests'
environment, whose packages come after its own on the path; those that are missing there are installed beside it. The
version under test isn't found there: it is an editable install, which needs a .pth file, and those aren't read in a
directory that is only added to the path.
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
_REQUIRED = """
import re
from importlib.metadata import PackageNotFoundError, requires, version
for line in requires("g3-recorder"):
    if "extra ==" not in line:
        try:
            version(re.match(r"[A-Za-z0-9._-]+", line)[0])
        except PackageNotFoundError:
            print(line)
"""


class NotInHistory(Exception):
    """The commit isn't in this clone; the message says how to fetch it."""


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """An installed version."""

    python: tuple[str, ...]
    """Its interpreter, as Program takes it."""
    source: Path
    """The directory with all files of its commit."""


def earlier_version(commit: str) -> EarlierVersion:
    """Install a commit, once for this user and the tests' environment, in seconds; return the version.

    Raises NotInHistory, VenvError, IndexUnreachable.
    """
    environment = f"{sys.prefix} {sys.version}"
    name = f"g3-recorder-{commit[:7]}-{hashlib.sha256(environment.encode()).hexdigest()[:8]}"
    present = sorted(path.name for path in Path(_packages_here()).glob("*.dist-info"))
    digest = hashlib.sha256(" ".join([commit, *present]).encode()).hexdigest()
    home = made_once(name, digest, "some seconds", lambda home: _make(home, name, commit))
    # Isolated from PYTHONPATH and from the current directory, which has the version under test.
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
    # This environment's pip installs there, so that the new environment contains only the version.
    python = str(home / "bin" / "python")
    install(name, [sys.executable, "-m", "pip", "--python", python], ["--no-deps", str(source)])
    own = subprocess.run(
        [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # A directory in a .pth file comes later on the path; .pth files in that directory are not read.
    Path(own.stdout.strip(), "dependencies.pth").write_text(f"{_packages_here()}\n")
    missing = _missing(python)
    if missing:
        install(name, [sys.executable, "-m", "pip", "--python", python], ["--no-deps", *missing])


def _missing(python: str) -> list[str]:
    """Return the version's dependencies that the tests' environment doesn't have, because this version needs none."""
    asked = subprocess.run([python, "-I", "-c", _REQUIRED], capture_output=True, text=True, check=True)
    return asked.stdout.splitlines()


def _packages_here() -> str:
    return sysconfig.get_path("purelib")


def _check(found: EarlierVersion, home: Path) -> None:
    """Check that its programs are its own, not the version under test's, and its dependencies shared."""
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
        raise NotInHistory("there is no git here, so no earlier version can be installed")
    command = [git, "-C", str(_REPOSITORY), *arguments]
    done = subprocess.run(command, stdout=into, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        commit, why = arguments[-1], done.stderr.strip()
        fetch = f"`git fetch --unshallow`, or `git fetch origin {commit}`, gets it"
        raise NotInHistory(f"commit {commit[:7]} isn't in this clone's history; {fetch} ({why})")
