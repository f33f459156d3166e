"""Shared objects for LD_PRELOAD that imitate other file systems or hosts; each source describes one."""

import shutil
import subprocess
from pathlib import Path

import pytest


def compiled(name: str, directory: Path) -> str:
    """Compile `name`.c; return the shared object's path. Skips the test if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc), which this test needs to imitate another file system")
    source, shared = Path(__file__).with_name(f"{name}.c"), directory / f"{name}.so"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(shared), str(source), "-ldl"], check=True
    )
    return str(shared)
