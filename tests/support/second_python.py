"""The second Python that `make test` runs the suite on: the newest on this machine, or the oldest that we support.

    python tests/support/second_python.py

The first one is that which runs this, `.venv`'s. Makes `.venv-second` with the second one, if it isn't there yet, and
prints its interpreter; nothing if the machine has no other Python. Says on stderr what it found and did. An
interpreter is looked for on PATH and where pyenv and uv keep theirs; one that our dependencies can't be installed
with, as it is too new for them, is passed over with a line.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]
_PROJECT = _ROOT / "pyproject.toml"
_VENV = _ROOT / ".venv-second"
_EXTRAS = "demo,ocs,socs,test"
_NAME = re.compile(r"python3\.[0-9]+")
_ASK = (
    "import json, sys, sysconfig, venv, ensurepip;"
    "print(json.dumps([sys.executable, sys.version_info[:3],"
    " sys.version_info.releaselevel == 'final' and not sysconfig.get_config_var('Py_GIL_DISABLED')]))"
)
_ASK_SECONDS = 20

Version = tuple[int, int, int]


class Python(NamedTuple):
    """An interpreter."""

    version: Version
    path: str

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.path})"


def seconds(first: Version, oldest: tuple[int, int], found: Iterable[Python]) -> list[Python]:
    """Which to take besides the first, the best one first: newer ones, the newest first; if there are none, older
    ones that we support, the oldest first. Other micro versions of the first are no others. Pure."""
    others = sorted({p.version[:2]: p for p in sorted(found)}.values())
    newer = [p for p in others if p.version[:2] > first[:2]]
    return newer[::-1] or [p for p in others if oldest <= p.version[:2] < first[:2]]


def installed() -> list[Python]:
    """The released interpreters here that can make environments (no free-threaded ones: they have no wheels)."""
    home = Path.home()
    versions = [Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions", home / ".local/share/uv/python"]
    kept = [directory for place in versions for directory in sorted(place.glob("*/bin"))]
    on_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    found = [path for place in (*on_path, *kept) for path in place.glob("python3.*") if _NAME.fullmatch(path.name)]
    answers = {answer for path in found if (answer := _ask(path))}
    return sorted(answers)


def _ask(path: Path) -> Python | None:
    """What that interpreter is; None if it can't be used (pyenv's shims often can't)."""
    try:
        # Isolated, as what is in this directory and in PYTHONPATH isn't meant.
        done = subprocess.run([path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=_ASK_SECONDS)
        executable, version, usable = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Python(tuple(version), str(Path(executable).resolve())) if usable else None


def environment(candidates: Sequence[Python]) -> Python | None:
    """The environment of the first of these that our dependencies can be installed with; None if there is none."""
    project = hashlib.sha256(_PROJECT.read_bytes()).hexdigest()
    ready, interpreter = _VENV / ".ready", _VENV / "bin" / "python"
    for candidate in candidates:
        stamp = f"{candidate} {project}"
        if not (ready.exists() and ready.read_text() == stamp):
            _say(f"making {_VENV.name} with {candidate}")
            if (why := _make(candidate, interpreter)) is not None:
                _say(f"passed over {candidate}: what we need can't be installed with it: {why}")
                continue
            ready.write_text(stamp)
        return Python(candidate.version, str(interpreter))
    return None


def _make(candidate: Python, interpreter: Path) -> str | None:
    """Make the environment; gives why that failed, if it did."""
    shutil.rmtree(_VENV, ignore_errors=True)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet"]
    for command in (
        [candidate.path, "-m", "venv", str(_VENV)],
        [*pip, "--upgrade", "pip"],
        [*pip, "--editable", f"{_ROOT}[{_EXTRAS}]"],
    ):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            return (done.stdout.strip() or "no reason given").splitlines()[-1]
    return None


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    """Print the second interpreter."""
    first = sys.version_info[:3]
    asked = tomllib.loads(_PROJECT.read_text())["project"]["requires-python"]
    major, minor = re.fullmatch(r">=([0-9]+)\.([0-9]+)", asked).groups()  # type: ignore[union-attr]  # it is ours
    found = installed()
    second = environment(seconds(first, (int(major), int(minor)), found))
    if second is None:
        _say(f"no second Python: {', '.join(map(str, found)) or 'no other'} found. {'.'.join(map(str, first))} only")
    else:
        _say(f"second Python: {'.'.join(map(str, second.version))}, besides {'.'.join(map(str, first))}")
        print(second.path)


if __name__ == "__main__":
    main()
