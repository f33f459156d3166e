"""Virtual environments, each made once in the user's cache, for software that can't be installed beside ours.

`$XDG_CACHE_HOME/g3-recorder/<name>-venv` (`~/.cache`), made again when the requirements change or its Python is gone.
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
"""pip's messages when no package index answers; after them it reports the package as not found."""


class VenvError(RuntimeError):
    """An environment can't be made. The message has the reason."""


class IndexUnreachable(VenvError):
    """The package index that pip is configured for doesn't answer."""


@dataclass(frozen=True, slots=True)
class OwnVenv:
    """A virtual environment with its own packages."""

    name: str
    requirements: Path
    """The file that lists all its packages, pinned."""
    size: str
    """The download's size and duration, as text for the user."""

    def python(self) -> Path:
        """Return the path of its interpreter, making the environment first if it is missing.

        Making it is reported on stderr. Raises VenvError, IndexUnreachable.
        """
        digest = hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        return made_once(self.name, digest, self.size, self._make) / "bin" / "python"

    def _make(self, home: Path) -> None:
        venv.create(home, with_pip=True)
        # The list is complete, so there is nothing to resolve. Nothing is compiled: that could take very long.
        what = ["--no-deps", "--only-binary", ":all:", "--requirement", str(self.requirements)]
        install(self.name, [str(home / "bin" / "python"), "-m", "pip"], what)


def made_once(name: str, digest: str, size: str, make: Callable[[Path], None]) -> Path:
    """Return the directory of the environment `name`, calling `make` first if it is missing or outdated.

    digest: of what it is made from; if that has changed, it is made again. size: the download's size and duration, as
    text for the user. Raises VenvError, IndexUnreachable.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / f"{name}-venv"
    if _installed_requirements(home) == digest:
        return home
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making it
        if _installed_requirements(home) != digest:
            print(f"Installing {name} into its own environment, once ({size})", file=sys.stderr, flush=True)
            shutil.rmtree(home, ignore_errors=True)
            try:
                make(home)
            except (OSError, subprocess.CalledProcessError) as error:
                raise VenvError(f"can't make a virtual environment for {name}: {error}") from error
            (home / "ready").write_text(digest)
    return home


def install(name: str, pip: Sequence[str], what: Sequence[str]) -> None:
    """Run `pip install` for the environment `name`. pip: the command; what: its arguments.

    Raises VenvError, IndexUnreachable, OSError.
    """
    with tempfile.TemporaryFile("w+") as file:
        command = [*pip, "install", "--quiet", "--disable-pip-version-check", *what]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
        file.seek(0)
        output = file.read()
    if done.returncode:
        raised = IndexUnreachable if _UNREACHABLE.search(output) else VenvError
        python = ".".join(map(str, sys.version_info[:3]))
        raise raised(f"{name} can't be installed with Python {python}: {output[-1000:]}")


def _installed_requirements(home: Path) -> str | None:
    """The digest of what is installed there; None if it is incomplete, or its Python has been removed."""
    try:
        return (home / "ready").read_text() if (home / "bin" / "python").exists() else None
    except FileNotFoundError:
        return None
