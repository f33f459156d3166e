"""The choice of the second Python of `make test`: the other end of the installed and supported versions."""

import sys
from pathlib import Path

import pytest

from tests.support.second_python import Python, Version, installed, second_pythons

OLDEST = (3, 11)


def python(minor: int, micro: int = 0, where: str = "/a") -> Python:
    return Python((3, minor, micro), where)


@pytest.mark.parametrize(
    ("first", "found", "best"),
    [
        ((3, 11, 2), [python(11, 2), python(12), python(13)], [python(13), python(12)]),
        ((3, 12, 0), [python(11), python(12), python(13)], [python(13)]),
        ((3, 13, 0), [python(10), python(11), python(12), python(13)], [python(11), python(12)]),
        ((3, 13, 0), [python(9), python(10), python(13)], []),
        ((3, 11, 2), [python(11, 2), python(11, 9, "/b")], []),
        ((3, 11, 2), [python(13, 1, "/b"), python(13, 0)], [python(13, 1, "/b")]),
        ((3, 11, 2), [], []),
    ],
)
def test_the_second_python_is_the_other_end_of_the_installed_versions(
    first: Version, found: list[Python], best: list[Python]
) -> None:
    assert second_pythons(first, OLDEST, found) == best


def test_an_interpreter_that_does_not_work_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv's shims don't work where their version isn't selected."""
    (tmp_path / "python3.99").write_text("#!/bin/sh\necho 'pyenv: python3.99: command not found' >&2; exit 127\n")
    (tmp_path / "python3.99").chmod(0o755)
    (tmp_path / "python3.98").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    assert [found.version for found in installed()] == [sys.version_info[:3]]
