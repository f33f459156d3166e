"""Prometheus and its promtool: from PATH, else from Debian's packages, fetched once into the user's cache."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from testbed.debian_packages import FetchError, unpack_package

_RUN_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The paths of the two programs."""

    server: Path
    promtool: Path

    def check(self, *arguments: str, stdin: str = "") -> str:
        """Run promtool with these arguments. Returns its output, or fails with it if promtool finds faults."""
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
    """Find Prometheus, or fetch it (19 MB). Raises FetchError."""
    server, promtool = shutil.which("prometheus"), shutil.which("promtool")
    if server and promtool:
        return Prometheus(Path(server), Path(promtool))
    # With its dependencies: Debian 13 has promtool in a package of its own, which Debian 12 lacks.
    programs = unpack_package("prometheus", "prometheus", with_dependencies=True) / "usr" / "bin"
    return Prometheus(programs / "prometheus", programs / "promtool")


def prometheus_or_skip() -> Prometheus:
    """Return Prometheus, or skip the test if it is missing."""
    try:
        return prometheus()
    except FetchError as error:
        pytest.skip(f"no Prometheus: {error}")
