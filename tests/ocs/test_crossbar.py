"""The router of the demo and of the agents' tests, where it doesn't boot."""

from pathlib import Path

import pytest

from compose import crossbar
from compose.crossbar import Crossbar, CrossbarError


def program(path: Path, *lines: str) -> Path:
    """A shell script."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossbar, "_BOOT_SECONDS", 1.0)


def test_one_that_hangs_at_its_boot_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs_once = program(
        tmp_path / "hangs-once",
        f"if mkdir {tmp_path}/started 2>/dev/null; then exec sleep 600; fi",
        "echo NODE_BOOT_COMPLETE",
        "exec sleep 600",
    )
    monkeypatch.setattr(crossbar, "executable", lambda: hangs_once)
    with Crossbar(tmp_path / "crossbar") as router:
        assert router.log.read_text() == "NODE_BOOT_COMPLETE\n"


def test_one_that_never_boots_is_given_up_with_what_it_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = program(tmp_path / "hangs", "echo waiting for Godot", "exec sleep 600")
    monkeypatch.setattr(crossbar, "executable", lambda: hangs)
    with pytest.raises(CrossbarError, match="waiting for Godot"):
        Crossbar(tmp_path / "crossbar").start()
