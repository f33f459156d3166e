"""Install this package, with what some of its extras need, into the environment `.venv`: the Makefile's first step.

    python3 packaging/environment.py demo,web

It makes the environment if there is none, and shows each large file that pip downloads: the first time that takes
half a minute to some minutes. It needs nothing but Python.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

_VENV: Final = Path(".venv")
_OLDEST: Final = (3, 11)
_DOWNLOAD: Final = re.compile(r"\s*Downloading (?:.*/)?([\w.]+)-([\w.+!]+)\S* \((.* MB)\)")
"""pip's line about a file of 1 MB or more: its name, version and size."""
_INSTALLING: Final = re.compile(r"Installing collected packages: (.*)")
# setuptools tells whoever installs in place that folders may hide packages of their name. Here they are the same.
_PIP_ENVIRONMENT: Final = {"PYTHONWARNINGS": "ignore:Editable installation", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class _InstallError(Exception):
    """The environment can't be made. The message has the reason, and what to do."""


def _make_venv() -> None:
    """Make the environment if there is none with a pip. Raises _InstallError."""
    if sys.version_info < _OLDEST:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise _InstallError(f"Python 3.11 or newer is needed, and python3 is {version}: make PYTHON=python3.12 …")
    python = _VENV / "bin" / "python"
    if python.exists() and subprocess.run([python, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode == 0:
        return
    done = subprocess.run(
        [sys.executable, "-m", "venv", str(_VENV)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise _InstallError(f"{done.stdout.strip()}\nthe environment {_VENV} can't be made")


def _install(extras: str, begin_s: float) -> None:
    """Install the package in place with these extras, showing what is downloaded, and the time since the begin.

    Raises _InstallError.
    """
    # Modules are compiled when they are imported: most of them never are.
    command = [str(_VENV / "bin" / "python"), "-m", "pip", "install", "--no-compile", "--editable", f".[{extras}]"]
    shown = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **_PIP_ENVIRONMENT},
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            shown.append(line)
            what = None
            if download := _DOWNLOAD.match(line):
                what = f"{download[1]} {download[2]}, {download[3]}"
            elif installing := _INSTALLING.match(line):
                what = f"installing {installing[1].count(',') + 1} packages"
            if what:
                _say(what, begin_s)
    if pip.returncode:
        raise _InstallError(f"{''.join(shown[-20:])}\n{' '.join(command)} failed: see above")


def _say(what: str, begin_s: float) -> None:
    print(f"  {time.monotonic() - begin_s:4.0f} s  {what}", flush=True)


def main() -> int:
    """Make `.venv`, or add to it. Returns the exit code."""
    extras, begin_s = sys.argv[1], time.monotonic()
    try:
        print(f"Installing into {_VENV}, once: {extras}", flush=True)
        _make_venv()
        _say("asking the package index", begin_s)
        _install(extras, begin_s)
    except _InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
