"""A large file is copied block by block, whole or as far as it goes, until it is cancelled."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from archiver.storage.page_cache import copy_bytes

LENGTH = (20 << 20) + 7
"""Three blocks."""


@contextmanager
def two_files(directory: Path, data: bytes) -> Iterator[tuple[int, int]]:
    """A file with that in it, and an empty one."""
    (directory / "source").write_bytes(data)
    with (directory / "source").open("rb") as source, (directory / "target").open("wb") as target:
        yield source.fileno(), target.fileno()


def nothing() -> None:
    """Never cancelled."""


@pytest.fixture(params=["in the kernel", "by us", "by us after a block"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways of copying: some file systems have no copy_file_range, some only within one file system."""
    real: Callable[..., int] = os.copy_file_range
    left = [{"in the kernel": 1000, "by us": 0, "by us after a block": 1}[request.param]]

    def limited(*arguments: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.EXDEV, "not here")
        return real(*arguments)

    monkeypatch.setattr(os, "copy_file_range", limited)


@pytest.mark.slow
@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("start", [0, 1, (8 << 20) + 1])
@pytest.mark.parametrize("length", [0, 1, (8 << 20), LENGTH - 1, LENGTH, LENGTH + 1])
def test_bytes_are_copied_as_far_as_there_are_any(tmp_path: Path, start: int, length: int) -> None:
    data = os.urandom(LENGTH)
    with two_files(tmp_path, data) as (source, target):
        assert copy_bytes(source, target, start, length, nothing) == len(data[start : start + length])
    assert (tmp_path / "target").read_bytes() == data[start : start + length]


def test_it_ends_before_the_next_block_once_cancelled(tmp_path: Path) -> None:
    asked: list[None] = []

    def going_on() -> None:
        asked.append(None)
        if len(asked) == 2:
            raise InterruptedError

    with two_files(tmp_path, bytes(LENGTH)) as (source, target), pytest.raises(InterruptedError):
        copy_bytes(source, target, 0, LENGTH, going_on)
    assert (tmp_path / "target").stat().st_size == 8 << 20


def test_any_other_error_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with two_files(tmp_path, bytes(LENGTH)) as (source, target), pytest.raises(OSError, match="No space"):
        copy_bytes(source, target, 0, LENGTH, nothing)
