"""Prometheus and its promtool: those on PATH, else Debian's, fetched once into the user's cache."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.debian_packages import FetchError, unpack_package

_RUN_SECONDS = 60.0


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
    """Find it, or fetch it (19 MB). Raises FetchError."""
    server, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if server and promtool:
        return Prometheus(Path(server), Path(promtool))
    programs = unpack_package("prometheus", "prometheus") / "usr" / "bin"  # it needs nothing but libc
    return Prometheus(programs / "prometheus", programs / "promtool")


def prometheus_or_skip() -> Prometheus:
    """The same for a test, which is skipped without."""
    try:
        return prometheus()
    except FetchError as why:
        pytest.skip(f"no Prometheus: {why}")
