"""Build the wheel and the sdist, check them, and try the wheel in empty environments: `make dist`.

What is built is what is committed, as it is in the working tree now. The wheel is made from the sdist, as an
installer without a fitting wheel would make it. The version is that of the last tag (setuptools-scm).
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Set
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_TOP_LEVEL = frozenset({"archiver", "g3_agents", "g3stream", "ingest", "testbed"})
_SHARED = "share/g3-recorder/"
_MADE = re.compile(r"PKG-INFO|setup\.cfg|[^/]+\.egg-info/.+")
"""What setuptools adds to an sdist."""
_IMPORTS = (
    "import g3stream, sys;"
    "assert g3stream.records and g3stream.__version__;"
    "assert 'spt3g' not in sys.modules;"
    "print('g3stream', g3stream.__version__)"
)
_WITHOUT_EXTRAS = (
    ["bin/ingest", "--version"],
    ["bin/g3-ingest", "--help"],
    ["bin/archiver", "--help"],
    ["bin/g3-archiver", "tail", "--help"],
    ["bin/python", "-I", "-c", _IMPORTS],
)


class _WrongError(Exception):
    """A distribution isn't what it should be. The message says what is wrong."""


def _committed() -> Set[str]:
    git = shutil.which("git")
    if git is None:
        raise _WrongError("git, which knows what belongs to the repository, isn't installed")
    listing = [git, "ls-tree", "-r", "-z", "--name-only", "HEAD"]
    listed = subprocess.run(listing, cwd=_ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name}


def _check_sdist(sdist: Path, committed: Set[str]) -> None:
    root = sdist.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(sdist) as files:
        names = {member.name.removeprefix(root) for member in files if member.isfile()}
    has = {name for name in names if not _MADE.fullmatch(name)}
    if has != committed:
        differences = f"lacks {sorted(committed - has)}, and has {sorted(has - committed)}"
        raise _WrongError(f"the sdist {differences}; it should be what is committed")


def _check_wheel(wheel: Path, committed: Set[str]) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = {name for name in files.namelist() if not name.endswith("/")}
    information = "-".join(wheel.name.split("-")[:2])
    shared = f"{information}.data/data/{_SHARED}"
    ours = {name for name in names if not name.startswith(information)}
    expected = {name for name in committed if name.split("/")[0] in _TOP_LEVEL}
    if ours != expected:
        raise _WrongError(f"the wheel lacks {sorted(expected - ours)}, and has {sorted(ours - expected)}")
    installed = {name.removeprefix(shared) for name in names if name.startswith(shared)}
    needed = {name for name in committed if name.startswith("packaging/systemd/")} | {
        "compose/monitoring/alerts.yml",
        "compose/monitoring/grafana/dashboards/g3-recorder.json",
        "docs/reference/g3.files.schema.json",
    }
    if missing := needed - installed:
        raise _WrongError(f"the wheel's {_SHARED} lacks {sorted(missing)}")


def _build(into: Path, scratch: Path) -> tuple[Path, Path]:
    shutil.rmtree(into, ignore_errors=True)
    _run([sys.executable, "-m", "build", "--outdir", str(into), str(_ROOT)], scratch, quiet=True)
    (sdist,) = into.glob("*.tar.gz")
    (wheel,) = into.glob("*.whl")
    return sdist, wheel


def _try(wheel: Path, scratch: Path) -> None:
    """Install the wheel in an empty environment and run it: without extras, then the demo."""
    home = scratch / "environment"
    venv.create(home, with_pip=True)
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", str(wheel)], elsewhere)
    for program, *arguments in _WITHOUT_EXTRAS:
        _run([str(home / program), *arguments], elsewhere, quiet="--help" in arguments)
    _run([*pip, "install", "--quiet", f"{wheel}[demo]"], elsewhere)
    _run([*pip, "check"], elsewhere)
    _run([str(home / "bin" / "python"), "-m", "testbed.demo"], elsewhere)


def _run(command: list[str], directory: Path, *, quiet: bool = False) -> None:
    """Run a command, shown; quiet: what it prints is shown only if it fails. Raises CalledProcessError."""
    print(f"$ {' '.join(command)}", flush=True)
    done = subprocess.run(
        command, cwd=directory, stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        print(done.stdout or "", end="")
    done.check_returncode()


def main() -> int:
    """Build into the directory that is named. Returns the exit code."""
    into = Path(sys.argv[1]).resolve()
    try:
        committed = _committed()
        with tempfile.TemporaryDirectory(prefix="dist-") as directory:
            scratch = Path(directory)
            sdist, wheel = _build(into, scratch)
            _check_sdist(sdist, committed)
            _check_wheel(wheel, committed)
            _run([sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel)], scratch)
            tool = Path(sys.executable).with_name("check-wheel-contents")
            _run([str(tool), "--config", str(_ROOT / "pyproject.toml"), str(wheel)], scratch)
            _try(wheel, scratch)
    except (_WrongError, subprocess.CalledProcessError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print(f"\n{wheel.name} and {sdist.name} are in {into}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
