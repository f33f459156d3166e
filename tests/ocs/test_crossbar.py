"""The router of the demo and of the agents' tests, where it boots as any other, and where it doesn't."""

import json
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from testbed import crossbar
from testbed.child_process import HOST
from testbed.crossbar import Crossbar
from testbed.server import ServerError


def program(path: Path, *lines: str) -> Path:
    """A script; the first line says which interpreter runs it."""
    path.write_text("\n".join([*lines, ""]))
    path.chmod(0o755)
    return path


def test_it_has_booted_once_it_logs_so_although_it_flushes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boots = program(
        tmp_path / "boots",
        f"#!{sys.executable}",
        "import time",
        "print('NODE_BOOT_COMPLETE')",
        "time.sleep(600)",
    )
    monkeypatch.setattr(crossbar, "executable", lambda: boots)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # some machines and images have it set for all
    with Crossbar(tmp_path / "crossbar") as router:
        assert router.log.read_text() == "NODE_BOOT_COMPLETE\n"


def test_one_that_never_boots_is_given_up_with_what_it_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = program(tmp_path / "hangs", "#!/bin/sh", "echo waiting for Godot", "exec sleep 600")
    monkeypatch.setattr(crossbar, "executable", lambda: hangs)
    monkeypatch.setattr(crossbar, "_BOOT_SECONDS", 1.0)
    with pytest.raises(ServerError, match="waiting for Godot"):
        Crossbar(tmp_path / "crossbar").start()


def test_one_that_ends_is_given_up_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = program(tmp_path / "ends", "#!/bin/sh", "echo no such option", "exit 2")
    monkeypatch.setattr(crossbar, "executable", lambda: ends)
    with pytest.raises(ServerError, match="no such option"):
        Crossbar(tmp_path / "crossbar").start()


def test_a_real_one_can_be_joined_once_it_has_started(
    crossbar_program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert crossbar_program
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Crossbar(tmp_path / "crossbar") as router:
        client = HTTPConnection(HOST, router.port, timeout=60)
        client.request("POST", "/call", b'{"procedure": "wamp.session.count"}', {"Content-Type": "application/json"})
        assert "args" in json.load(client.getresponse())
