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
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
        home = cache / f"{self.name}-venv"
        wanted = hashlib.sha256(self.requirements.read_bytes()).hexdigest()
        if _made_of(home) == wanted:
            return home / "bin" / "python"
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{self.name}-venv.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making it
            if _made_of(home) != wanted:
                self._make(home)
                (home / "ready").write_text(wanted)
        return home / "bin" / "python"

    def _make(self, home: Path) -> None:
        what = f"Installing {self.name} into an environment of its own, once ({self.size})"
        print(what, file=sys.stderr, flush=True)
        shutil.rmtree(home, ignore_errors=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            venv.create(home, with_pip=True)
            with tempfile.TemporaryFile("w+") as said:
                done = subprocess.run(
                    # All are in the list, so nothing is resolved; and nothing is compiled, which could take for ever.
                    [*pip, "--no-deps", "--only-binary", ":all:", "--requirement", str(self.requirements)],
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
                said.seek(0)
                output = said.read()
        except (OSError, subprocess.CalledProcessError) as error:
            raise VenvError(f"no environment for {self.name} can be made: {error}") from error
        if done.returncode:
            raised = IndexUnreachable if _UNREACHABLE.search(output) else VenvError
            python = ".".join(map(str, sys.version_info[:3]))
            raise raised(f"{self.name} can't be installed with Python {python}: {output[-1000:]}")


def _made_of(home: Path) -> str | None:
    """The digest of what is installed there; None if that isn't complete, or its Python was removed meanwhile."""
    try:
        return (home / "ready").read_text() if (home / "bin" / "python").exists() else None
    except FileNotFoundError:
        return None
