"""kcat, the usual tool to get a topic's bytes into a file: from PATH, else from Debian's package."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from testbed.debian_packages import unpack_package


@dataclass(frozen=True, slots=True)
class Kcat:
    """The program, and the environment variables that it needs."""

    executable: Path
    environment: Mapping[str, str]


def kcat() -> Kcat:
    """Find kcat, or fetch it (1 MB). Raises FetchError."""
    if found := shutil.which("kcat"):
        return Kcat(Path(found), dict(os.environ))
    # Few machines have its two libraries.
    home = unpack_package("kcat", "kcat", "librdkafka1", "libyajl2")
    libraries = os.pathsep.join(str(path) for path in Path(home, "usr", "lib").glob("*-linux-*"))
    return Kcat(home / "usr" / "bin" / "kcat", {**os.environ, "LD_LIBRARY_PATH": libraries})
