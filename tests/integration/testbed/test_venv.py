"""Environments for software that can't be installed beside us: made once, and why if they can't be."""

import subprocess
from pathlib import Path

import pytest

from testbed.child_process import free_port
from testbed.venv import IndexUnreachable, OwnVenv, VenvError


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OwnVenv:
    """One that nobody has yet, with nothing in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    return OwnVenv("mine", requirements, "nothing")


@pytest.mark.slow
def test_it_is_made_once_and_anew_for_other_requirements(venv: OwnVenv, capfd: pytest.CaptureFixture[str]) -> None:
    python = venv.python()
    assert subprocess.run([python, "-c", "import pip"]).returncode == 0
    assert "Installing mine" in capfd.readouterr().err
    assert venv.python() == python
    assert capfd.readouterr().err == ""

    venv.requirements.write_text("# still nothing, but other\n")
    assert venv.python() == python
    assert "Installing mine" in capfd.readouterr().err

    python.unlink()  # as when the Python that it was made with is removed
    assert venv.python().exists()


@pytest.mark.slow
def test_an_index_that_does_not_answer_is_told_from_a_package_that_is_not_there(
    venv: OwnVenv, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.requirements.write_text("there-is-no-such-package==1.0\n")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port()}/simple")
    with pytest.raises(IndexUnreachable, match="mine can't be installed with Python"):
        venv.python()

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(VenvError, match="there-is-no-such-package") as raised:
        venv.python()
    assert not isinstance(raised.value, IndexUnreachable)
