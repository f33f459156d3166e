"""What a site file and the command line may contain, and the errors for what they may not."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ocs", reason="the package ocs isn't installed: pip install '.[ocs]'")

from archiver.core.paths import NameFormat
from archiver.service import settings
from g3_agents import smurf_archiver, smurf_ingest, smurf_recorder
from g3_agents.runner import parse

_SITE = """
hub: {wamp_server: "ws://127.0.0.1:1/ws", wamp_http: "http://127.0.0.1:1/call", wamp_realm: r, address_root: obs}
hosts:
  localhost:
    agent-instances:
"""


@pytest.fixture
def site(tmp_path: Path) -> Any:
    """Parses as an agent of that class with these arguments in the site file does."""

    def parsed(agent_class: str, arguments: list[Any], *line: str) -> Any:
        path = tmp_path / "site.yaml"
        block = {"agent-class": agent_class, "instance-id": "slot-2", "arguments": arguments}
        path.write_text(f"{_SITE}      - {block!r}\n".replace("True", "true").replace("False", "false"))
        modules = {"SmurfRecorder": smurf_recorder, "SmurfIngest": smurf_ingest, "SmurfArchiver": smurf_archiver}
        return parse(agent_class, modules[agent_class].make_parser(), ["--site-file", str(path), *line])

    return parsed


@pytest.mark.parametrize(
    "arguments",
    [
        [["--auto-start", True], ["--time-per-file", "60"], ["--port", "50001"]],
        [["--auto-start"], ["--time-per-file", 60], ["--port", 50001]],
        ["--auto-start", "true", "--time-per-file", "60", "--port", 50001],
    ],
)
def test_strings_and_numbers_nested_and_flat(site: Any, arguments: list[Any]) -> None:
    options = site("SmurfRecorder", arguments)
    assert (options.auto_start, options.time_per_file, options.port) == (True, 60.0, 50001)
    assert options.data_dir == Path("/data/")
    assert (options.address_root, options.instance_id) == ("obs", "slot-2")


def test_the_command_line_wins_over_the_site_file(site: Any) -> None:
    options = site("SmurfIngest", ["--port", 50001, "--stream-id", "a"], "--port", "50002")
    assert (options.port, options.stream_id) == (50002, "a")


def test_auto_start_false_is_false(site: Any) -> None:
    assert site("SmurfRecorder", [["--auto-start", False]]).auto_start is False
    assert site("SmurfRecorder", []).auto_start is False


def test_options_that_other_recorders_have_are_taken(site: Any) -> None:
    assert site("SmurfRecorder", [["--target-rate", 20]]).target_rate == 20.0
    assert site("SmurfRecorder", []).target_rate == 10.0


def test_several_values(site: Any) -> None:
    options = site(
        "SmurfArchiver",
        [["--carry", "Observation", "Wiring"], ["--stream-id", "a", "b"], ["--name-format", "ctime"]],
    )
    assert options.stream_id == ["a", "b"]
    assert settings(options).carry == (ord("O"), ord("W"))
    assert settings(options).name_format is NameFormat.CTIME


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "many"], "argument --port: 'many' is not a port"),
        (["--time-per-file", "-1"], "argument --time-per-file: '-1' is not a duration"),
        (["--auto-start", "perhaps"], "argument --auto-start: 'perhaps' is neither true nor false"),
        (["--stream-id", "../etc"], "argument --stream-id:"),
        (["--kafka-config", "/nowhere/client.properties"], "argument --kafka-config:"),
        (["--carry", "Observation", "Wiring", "Scan", "Calibration"], "argument --carry: at most 3 frame types"),
        (["--target-rate", "fast"], "argument --target-rate: 'fast' is not a rate in Hz from 0.01 to 100"),
        (["--target-rate", 0], "argument --target-rate: '0' is not a rate in Hz"),
        (["--no-such-option", 1], "unrecognized arguments: --no-such-option 1"),
    ],
)
def test_bad_arguments_are_usage_errors(
    site: Any, capsys: pytest.CaptureFixture[str], arguments: list[Any], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        site("SmurfRecorder", arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage:")
    assert said in error


def test_a_wrong_loglevel_is_a_usage_error(
    site: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGLEVEL", "loud")
    with pytest.raises(SystemExit):
        site("SmurfRecorder", [])
    assert "LOGLEVEL: 'loud'" in capsys.readouterr().err


@contextmanager
def unconfigured_log() -> Iterator[logging.Logger]:
    """The root logger as a program finds it: without pytest's handlers, beside which no other is set up."""
    root = logging.getLogger()
    handlers, level, hooks = [*root.handlers], root.level, (sys.excepthook, threading.excepthook)
    root.handlers.clear()
    try:
        yield root
    finally:
        for handler in root.handlers:
            handler.close()  # which gives sys.stderr back, too
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.excepthook, threading.excepthook = hooks


@pytest.mark.parametrize(
    ("level", "lowest"),
    [
        ("trace", logging.DEBUG),
        ("debug", logging.DEBUG),
        ("info", logging.INFO),
        (None, logging.INFO),
        ("warn", logging.WARNING),
        ("WARN", logging.WARNING),
        ("error", logging.ERROR),
        ("critical", logging.CRITICAL),
    ],
)
def test_the_log_has_the_level_that_ocs_calls_so(
    site: Any, monkeypatch: pytest.MonkeyPatch, level: str | None, lowest: int
) -> None:
    if level is None:
        monkeypatch.delenv("LOGLEVEL", raising=False)
    else:
        monkeypatch.setenv("LOGLEVEL", level)
    with unconfigured_log() as log:
        site("SmurfRecorder", [])
        assert log.level == lowest
        assert log.handlers, "the log goes somewhere"


def test_the_spool_stays_where_it_was_until_it_is_moved(site: Any, tmp_path: Path) -> None:
    """What Kafka hasn't got may be in it."""
    where = [["--data-dir", str(tmp_path / "data")], ["--stream-id", "crate1slot2"]]
    before, private = tmp_path / "data" / ".spool", ["--private-dir", str(tmp_path / "private")]
    assert smurf_recorder.spool_of(site("SmurfRecorder", where)) == before
    assert smurf_recorder.spool_of(site("SmurfRecorder", [*where, private])) == tmp_path / "private" / ".spool"
    (before / "crate1slot2").mkdir(parents=True)
    assert smurf_recorder.spool_of(site("SmurfRecorder", [*where, private])) == before
    own = ["--spool-dir", str(tmp_path / "own")]
    assert smurf_recorder.spool_of(site("SmurfRecorder", [*where, private, own])) == tmp_path / "own"


def test_the_private_dir_may_be_said_by_the_environment(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_PRIVATE_DIR", "/disk/private")
    assert site("SmurfArchiver", []).private_dir == Path("/disk/private")
    assert site("SmurfArchiver", [["--private-dir", "/other"]]).private_dir == Path("/other")
