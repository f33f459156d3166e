"""Programs from Debian packages, unpacked into the user's cache without installing them and without root."""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_FETCH_SECONDS = 300.0
_TO_INSTALL = re.compile(r"^Inst (\S+)", re.MULTILINE)
"""A line of `apt-get --simulate install`."""


class FetchError(RuntimeError):
    """The packages can't be fetched. The message has the reason."""


def unpack_package(name: str, *packages: str, with_dependencies: bool = False) -> Path:
    """Return the directory with these packages' files (`usr/bin` and so on), fetching them first if missing.

    name: of the program, and of the directory in `$XDG_CACHE_HOME/g3-recorder` (`~/.cache`). with_dependencies: fetch
    all packages, too, that these need and that aren't installed here. Raises FetchError.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / name
    if home.exists():
        return home
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise FetchError(f"{name} isn't on PATH, and this is no Debian to fetch it from")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching it
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as scratch:
                _fetch(name, packages, Path(scratch), with_dependencies=with_dependencies)
                Path(scratch, "unpacked").rename(home)  # atomic: a directory of that name is complete
    return home


def _fetch(name: str, packages: Sequence[str], scratch: Path, *, with_dependencies: bool) -> None:
    """Download the packages and unpack them into `scratch`/unpacked."""

    def download(*options: str) -> None:
        wanted = packages
        if with_dependencies:
            simulate = ["apt-get", *options, "--simulate", "--no-install-recommends", "install", *packages]
            wanted = _TO_INSTALL.findall(_run(name, simulate, scratch))
        _run(name, ["apt-get", *options, "download", *wanted], scratch)

    try:
        download()
    except FetchError:
        # A bare machine has no package lists, and only root may update the system's: so fetch separate ones.
        for directory in ("lists/partial", "archives/partial"):
            (scratch / directory).mkdir(parents=True)
        # Run by root, apt would change to another user, who may not write here.
        ours = [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}", "-oAPT::Sandbox::User="]
        _run(name, ["apt-get", *ours, "update"], scratch)
        download(*ours)
    for package in scratch.glob("*.deb"):
        _run(name, ["dpkg-deb", "-x", str(package), "unpacked"], scratch)


def _run(name: str, command: Sequence[str], directory: Path) -> str:
    """Run a command; return what it printed. Raises FetchError."""
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_FETCH_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        last = error.stdout.strip().rpartition("\n")[2]
        raise FetchError(f"{command[0]} can't fetch Debian's {name}: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{command[0]} can't fetch Debian's {name}: {error}") from error
    return done.stdout
