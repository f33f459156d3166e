"""Small file systems, for tests of what happens when they are full or gone."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*arguments: str) -> None:
    """Mount that; skips the test where it can't be done."""
    command = shutil.which("mount")
    if os.geteuid() != 0 or not command or not shutil.which("umount"):
        pytest.skip("only root can mount a small disk")
    done = subprocess.run([command, *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted: {done.stderr.strip()}")


def unmount(directory: Path, *, in_use: bool = False) -> None:
    """Unmount it. in_use: though there are open files; else that fails."""
    command = shutil.which("umount")
    assert command
    subprocess.run([command, *(["--lazy"] if in_use else []), str(directory)], check=True)


@contextmanager
def small_disk(directory: Path, size: str, *, in_use: bool = False) -> Iterator[Path]:
    """A file system of that size, in a directory that is made for it. in_use: as for `unmount`, in the end."""
    directory.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        unmount(directory, in_use=in_use)
