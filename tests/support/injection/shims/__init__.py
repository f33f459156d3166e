"""Shared objects for LD_PRELOAD that make a file system behave like another one; each source says which."""

import shutil
import subprocess
from pathlib import Path

import pytest


def compiled(name: str, directory: Path) -> str:
    """Compile `name`.c; gives the shared object's path. Skips the test if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc), and without one no other file system can be had here")
    source, shared = Path(__file__).with_name(f"{name}.c"), directory / f"{name}.so"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(shared), str(source), "-ldl"], check=True
    )
    return str(shared)
