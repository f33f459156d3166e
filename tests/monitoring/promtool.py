"""Prometheus and its promtool: those on PATH, else Debian's, fetched once into the user's cache."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

_FETCH_SECONDS = 120.0
_RUN_SECONDS = 60.0


class NoPrometheusError(RuntimeError):
    """Prometheus can't be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Where the two programs are."""

    server: Path
    promtool: Path

    def check(self, *arguments: str, stdin: str = "") -> str:
        """Run promtool with these; gives all that it printed. Fails with that, if promtool isn't content."""
        done = subprocess.run(
            [self.promtool, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"promtool {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout


def prometheus() -> Prometheus:
    """Find it, or fetch it (19 MB), into `$XDG_CACHE_HOME/g3-recorder` (`~/.cache`). Raises NoPrometheusError."""
    server, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if server and promtool:
        return Prometheus(Path(server), Path(promtool))
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise NoPrometheusError("promtool isn't on PATH, and this is no Debian to fetch it from")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / "prometheus"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be fetching it
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as scratch:
                _fetch(Path(scratch))
                Path(scratch, "unpacked").rename(home)  # it appears whole or not at all
    return Prometheus(home / "usr" / "bin" / "prometheus", home / "usr" / "bin" / "promtool")


def prometheus_or_skip() -> Prometheus:
    """The same for a test, which is skipped without."""
    try:
        return prometheus()
    except NoPrometheusError as why:
        pytest.skip(f"no Prometheus: {why}")


def _fetch(scratch: Path) -> None:
    """Download Debian's package and unpack it below `scratch`; it needs nothing but libc, and no root."""
    try:
        _run(["apt-get", "download", "prometheus"], scratch)
    except NoPrometheusError:
        # A bare machine has no package lists, and only root may change the system's: make our own.
        for directory in ("lists/partial", "archives/partial"):
            (scratch / directory).mkdir(parents=True)
        # As root apt would become another user, who may not write here.
        ours = [f"-oDir::State::lists={scratch}/lists", f"-oDir::Cache={scratch}", "-oAPT::Sandbox::User="]
        _run(["apt-get", *ours, "update"], scratch)
        _run(["apt-get", *ours, "download", "prometheus"], scratch)
    package = next(scratch.glob("prometheus_*.deb"))
    _run(["dpkg-deb", "-x", str(package), "unpacked"], scratch)


def _run(command: Sequence[str], directory: Path) -> None:
    try:
        subprocess.run(
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
        raise NoPrometheusError(f"{command[0]} can't fetch Debian's prometheus: {last}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoPrometheusError(f"{command[0]} can't fetch Debian's prometheus: {error}") from error
