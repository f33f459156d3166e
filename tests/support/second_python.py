"""The second Python for `make test`: the newest on this machine, or the oldest supported one.

    python tests/support/second_python.py

The first Python is the one that runs this script, that of `.venv`. The script creates `.venv-second` with the second
one, if it doesn't exist yet, and prints its interpreter; nothing if the machine has no other Python. It reports on
stderr what it found and did. It searches PATH and the directories of pyenv and uv. An interpreter for which the
dependencies can't be installed, because it is too new for them, is skipped with a line.
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
_EXTRAS = "demo,ocs,socs,web,test"
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


def second_pythons(first: Version, oldest: tuple[int, int], found: Iterable[Python]) -> list[Python]:
    """Return the candidates for the second Python, the best first. Pure.

    These are newer versions, the newest first; if there are none, older supported ones, the oldest first. Another
    micro version of the first Python is no candidate.
    """
    others = sorted({p.version[:2]: p for p in sorted(found)}.values())
    newer = [p for p in others if p.version[:2] > first[:2]]
    return newer[::-1] or [p for p in others if oldest <= p.version[:2] < first[:2]]


def installed() -> list[Python]:
    """Return the released interpreters here that can make environments, except free-threaded ones (no wheels)."""
    home = Path.home()
    versions = [Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions", home / ".local/share/uv/python"]
    kept = [directory for root in versions for directory in sorted(root.glob("*/bin"))]
    on_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    found = [
        path for directory in (*on_path, *kept) for path in directory.glob("python3.*") if _NAME.fullmatch(path.name)
    ]
    answers = {answer for path in found if (answer := _ask(path))}
    return sorted(answers)


def _ask(path: Path) -> Python | None:
    """Return the interpreter at a path; None if it can't be used, as pyenv's shims often can't."""
    try:
        # Isolated from this directory and from PYTHONPATH.
        done = subprocess.run([path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=_ASK_SECONDS)
        executable, version, usable = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return Python(tuple(version), str(Path(executable).resolve())) if usable else None


def environment(candidates: Sequence[Python]) -> Python | None:
    """Return the environment of the first candidate for which the dependencies can be installed, or None."""
    project = hashlib.sha256(_PROJECT.read_bytes()).hexdigest()
    ready, interpreter = _VENV / ".ready", _VENV / "bin" / "python"
    for candidate in candidates:
        stamp = f"{candidate} {project}"
        if not (ready.exists() and ready.read_text() == stamp):
            _say(f"making {_VENV.name} with {candidate}")
            if (why := _make(candidate, interpreter)) is not None:
                _say(f"skipped {candidate}: the dependencies can't be installed with it: {why}")
                continue
            ready.write_text(stamp)
        return Python(candidate.version, str(interpreter))
    return None


def _make(candidate: Python, interpreter: Path) -> str | None:
    """Make the environment; return why that failed, or None."""
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
    second = environment(second_pythons(first, (int(major), int(minor)), found))
    if second is None:
        _say(f"no second Python: {', '.join(map(str, found)) or 'no other'} found. {'.'.join(map(str, first))} only")
    else:
        _say(f"second Python: {'.'.join(map(str, second.version))}, besides {'.'.join(map(str, first))}")
        print(second.path)


if __name__ == "__main__":
    main()
