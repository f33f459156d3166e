"""Virtual environments for software that can't be installed beside ours: each made once, in the user's cache.

`$XDG_CACHE_HOME/g3-recorder/<name>-venv` (`~/.cache`); made anew when its requirements change, or its Python is gone.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_UNREACHABLE = re.compile(r"connection broken by|HTTPSConnectionPool|Temporary failure in name resolution")
"""What pip says when no package index answers, before it says that the package can't be found."""


class VenvError(RuntimeError):
    """An environment can't be made; the message says why."""


class IndexUnreachable(VenvError):
    """The package index that pip is configured for doesn't answer."""


@dataclass(frozen=True, slots=True)
class OwnVenv:
    """Such an environment. requirements: all of its packages, pinned. size: what it takes to make it, for people."""

    name: str
    requirements: Path
    size: str

    def python(self) -> Path:
        """Its interpreter; makes the environment if this user hasn't got it yet, and says so on stderr.

        Raises VenvError, IndexUnreachable.
        """
        digest = hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        return made_once(self.name, digest, self.size, self._make) / "bin" / "python"

    def _make(self, home: Path) -> None:
        venv.create(home, with_pip=True)
        # All are in the list, so nothing is resolved; and nothing is compiled, which could take for ever.
        what = ["--no-deps", "--only-binary", ":all:", "--requirement", str(self.requirements)]
        install(self.name, [str(home / "bin" / "python"), "-m", "pip"], what)


def made_once(name: str, digest: str, size: str, make: Callable[[Path], None]) -> Path:
    """The directory of the environment of that name, which `make` makes if this user hasn't got it yet.

    digest: of what it is made of; it is made anew if that has changed. size: what it takes to make it, for people.
    Raises VenvError, IndexUnreachable.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / f"{name}-venv"
    if _installed_requirements(home) == digest:
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making it
        if _installed_requirements(home) != digest:
            print(f"Installing {name} into an environment of its own, once ({size})", file=sys.stderr, flush=True)
            shutil.rmtree(home, ignore_errors=True)
            try:
                make(home)
            except (OSError, subprocess.CalledProcessError) as error:
                raise VenvError(f"no environment for {name} can be made: {error}") from error
            (home / "ready").write_text(digest)
    return home


def install(name: str, pip: Sequence[str], what: Sequence[str]) -> None:
    """Run `pip install` for the environment of that name. pip: the command; what: its arguments.

    Raises VenvError, IndexUnreachable, OSError.
    """
    with tempfile.TemporaryFile("w+") as said:
        command = [*pip, "install", "--quiet", "--disable-pip-version-check", *what]
        done = subprocess.run(command, stdout=said, stderr=subprocess.STDOUT)
        said.seek(0)
        output = said.read()
    if done.returncode:
        raised = IndexUnreachable if _UNREACHABLE.search(output) else VenvError
        python = ".".join(map(str, sys.version_info[:3]))
        raise raised(f"{name} can't be installed with Python {python}: {output[-1000:]}")


def _installed_requirements(home: Path) -> str | None:
    """The digest of what is installed there; None if that isn't complete, or its Python was removed meanwhile."""
    try:
        return (home / "ready").read_text() if (home / "bin" / "python").exists() else None
    except FileNotFoundError:
        return None
