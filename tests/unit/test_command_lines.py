"""Command lines of ingest and archiver: all documented options, their defaults, and errors."""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from archiver.__main__ import make_parser as archiver_parser
from g3stream.service.endpoint import ListenEndpoint
from ingest.__main__ import make_parser as ingest_parser

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {"ingest": ingest_parser, "archiver": archiver_parser}
NEEDED = {"ingest": ["--stream", "s"], "archiver": ["--data-dir", "d"]}


VARIABLES = {name for make in PARSERS.values() for name in re.findall(r"\[([A-Z][A-Z_]+)", make().format_help())}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove variables that the shell or CI has set."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], command: str, *args: str) -> str:
    """Parse arguments that must be refused as wrong usage; return the message."""
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args([*NEEDED[command], *args])
    assert exit_.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("ingest", "INGEST_PORT", "0"),
        ("ingest", "INGEST_STREAM", "../x"),
        ("ingest", "INGEST_KAFKA_CONFIG", "/nowhere/at/all"),
        ("archiver", "ARCHIVER_NAME_FORMAT", "iso"),
        ("archiver", "ARCHIVER_GAP", "-1"),
    ],
)
def test_a_bad_value_in_a_variable_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    required = [] if name == "INGEST_STREAM" else NEEDED[command]
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args(required)
    assert exit_.value.code == 2
    assert f"error: the environment variable {name}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("archiver", "ARCHIVER_STREAM", "../x"),
        ("ingest", "INGEST_TOPIC_CONFIG", "no-value"),
        ("archiver", "ARCHIVER_CARRY", "Bogus"),
        ("ingest", "LOGLEVEL", "loud"),
        ("archiver", "LOGLEVEL", "loud"),
    ],
)
def test_a_bad_item_or_choice_in_a_variable_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args(NEEDED[command])
    assert exit_.value.code == 2


def test_ingest_accepts_every_documented_option(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a.b=c")
    text = f"""--stream crate1slot2 --address host --port 4532 --listen 10.0.0.1:50001 --timeout 7.5
        --max-frame-size 1GiB --bootstrap-servers a:1,b:2 --kafka-config {tmp_path}/p --topic-config k=v=w
        --topic-config l= --replication-factor 3 --spool-dir {tmp_path} --spool-size 2GiB --log-level DEBUG
        --log-format json --http 9101"""
    assert vars(ingest_parser().parse_args(text.split())) == {
        "stream": "crate1slot2",
        "streams": None,
        "address": "host",
        "port": 4532,
        "listen": ListenEndpoint("10.0.0.1", 50001),
        "timeout": 7.5,
        "max_frame_size": 1 << 30,
        "bootstrap_servers": "a:1,b:2",
        "kafka_config": {"a.b": "c"},
        "topic_config": [("k", "v=w"), ("l", "")],
        "replication_factor": 3,
        "spool_dir": tmp_path,
        "spool_size": 2 << 30,
        "log_level": "debug",
        "log_format": "json",
        "http": ListenEndpoint("127.0.0.1", 9101),
        "check_config": False,
    }


def test_ingest_defaults() -> None:
    options = ingest_parser().parse_args(["--stream", "s"])
    assert (options.address, options.port, options.listen, options.timeout) == ("localhost", 50000, None, 5)
    assert (options.max_frame_size, options.spool_size, options.log_level) == (256 << 20, 16 << 30, "info")
    assert (options.topic_config, options.replication_factor, options.kafka_config) == ([], None, {})
    assert (options.log_format, options.http) == ("text", None)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("50000", ListenEndpoint("", 50000)),
        (":5", ListenEndpoint("", 5)),
        ("h:5", ListenEndpoint("h", 5)),
        ("[::1]:5", ListenEndpoint("::1", 5)),
    ],
)
def test_listen(text: str, where: ListenEndpoint) -> None:
    options = ingest_parser().parse_args(["--stream", "s", "--listen", text, "--http", text])
    assert options.listen == where
    assert options.http == ListenEndpoint(where.host or "127.0.0.1", where.port), (
        "to other hosts only if a host is given"
    )


def test_archiver_accepts_every_documented_option() -> None:
    text = """--data-dir /data --time-per-file 60 --gap 3 --name-format ctime --carry Observation --carry Wiring
        --stream a --stream b --group g --instance-id i --bootstrap-servers a:1 --log-level error
        --log-format json --http 0.0.0.0:9102"""
    options = archiver_parser().parse_args(text.split())
    assert (options.data_dir, options.time_per_file, options.gap) == (Path("/data"), 60, 3)
    assert (options.name_format, options.carry, options.stream) == ("ctime", ["Observation", "Wiring"], ["a", "b"])
    assert (options.group, options.instance_id, options.log_level) == ("g", "i", "error")
    assert (options.log_format, options.http) == ("json", ListenEndpoint("0.0.0.0", 9102))  # noqa: S104 - as in a container


def test_archiver_defaults() -> None:
    options = archiver_parser().parse_args(["--data-dir", "d"])
    assert (options.time_per_file, options.gap, options.name_format, options.group) == (600, 10, "date", "archiver")
    assert (options.stream, options.carry, options.instance_id) == ([], [], None)
    assert (options.log_format, options.http) == ("text", None)


@pytest.mark.parametrize("command", PARSERS)
@pytest.mark.parametrize(
    "args", [["--nonsense"], ["--log-level", "loud"], ["--log", "info"], ["--boot", "a:1"], ["extra"]]
)
def test_unknown_and_abbreviated_flags_are_refused(
    capsys: pytest.CaptureFixture[str], command: str, args: list[str]
) -> None:
    assert args[0] in refused(capsys, command, *args)


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("ingest", ["--stream", "a/b"]),
        ("ingest", ["--stream", "a\n"]),
        ("ingest", ["--timeout", "-1"]),
        ("ingest", ["--port", "70000"]),
        ("ingest", ["--listen", "host"]),
        ("ingest", ["--max-frame-size", "0"]),
        ("ingest", ["--topic-config", "novalue"]),
        ("ingest", ["--replication-factor", "0"]),
        ("ingest", ["--spool-size", "lots"]),
        ("archiver", ["--time-per-file", "-600"]),
        ("archiver", ["--gap", "0"]),
        ("archiver", ["--name-format", "iso"]),
        ("archiver", ["--carry", "Bogus"]),
        ("archiver", ["--stream", ".."]),
        ("archiver", ["--group", "a b"]),
        ("archiver", ["--instance-id", "../x"]),
    ],
)
def test_bad_values_are_refused_by_name(capsys: pytest.CaptureFixture[str], command: str, args: list[str]) -> None:
    assert f"argument {args[0]}" in refused(capsys, command, *args)


@pytest.mark.parametrize("command", PARSERS)
def test_help_has_examples_and_every_variable(capsys: pytest.CaptureFixture[str], command: str) -> None:
    parser = PARSERS[command]()
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--help"])
    assert exit_.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    flags = re.findall(r"^  (?:-[a-z], )?(--[a-z0-9-]+)", shown, re.MULTILINE)
    assert len(flags) > 5
    for flag in flags:
        if flag not in ("--help", "--version", "--check-config", "--print-completion"):
            named = {"--bootstrap-servers": "KAFKA_BOOTSTRAP_SERVERS", "--log-level": "LOGLEVEL"}
            assert named.get(flag, f"{command}_{flag[2:]}".upper().replace("-", "_")) in shown


@pytest.mark.parametrize("command", PARSERS)
def test_the_module_runs(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        rf"{command} \d+\.\d+\.\d+\S* \(confluent-kafka .*, librdkafka .*, Python .*\)\n", done.stdout
    )
    wrong = subprocess.run([sys.executable, "-m", command, "--wat"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr


def test_a_database_of_suprsync_without_its_package_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "socs.db.suprsync", None)  # as if it weren't installed
    with pytest.raises(SystemExit, match="2"):
        archiver_parser().parse_args(["--data-dir", "/data", "--suprsync-db", "suprsync.db"])
    assert "extra [socs]" in capsys.readouterr().err
