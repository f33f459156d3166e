"""Small file systems, for tests of full and missing disks."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(*arguments: str) -> None:
    """Mount a file system; skip the test where that isn't possible."""
    command = shutil.which("mount")
    if os.geteuid() != 0 or not command or not shutil.which("umount"):
        pytest.skip("only root can mount a small disk")
    done = subprocess.run([command, *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small disk can't be mounted: {done.stderr.strip()}")


def unmount(directory: Path, *, in_use: bool = False) -> None:
    """Unmount a file system. in_use: even if it has open files; otherwise that fails."""
    command = shutil.which("umount")
    assert command
    subprocess.run([command, *(["--lazy"] if in_use else []), str(directory)], check=True)


@contextmanager
def small_disk(directory: Path, size: str, *, in_use: bool = False) -> Iterator[Path]:
    """Mount a file system of that size in a new directory. in_use: as for `unmount`, at the end."""
    directory.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    try:
        yield directory
    finally:
        unmount(directory, in_use=in_use)
