"""Which two Pythons `make test` runs on: both ends of what is here and supported."""

import sys
from pathlib import Path

import pytest

from tests.support.second_python import Python, Version, installed, seconds

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
def test_the_second_python_is_the_other_end_of_what_is_here(
    first: Version, found: list[Python], best: list[Python]
) -> None:
    assert seconds(first, OLDEST, found) == best


def test_a_name_without_a_working_interpreter_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pyenv's shims are, where that version isn't chosen."""
    (tmp_path / "python3.99").write_text("#!/bin/sh\necho 'pyenv: python3.99: command not found' >&2; exit 127\n")
    (tmp_path / "python3.99").chmod(0o755)
    (tmp_path / "python3.98").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    assert [found.version for found in installed()] == [sys.version_info[:3]]
