"""What both commands take: flags, an environment variable for each, Kafka client properties."""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.__main__ import make_parser as archiver_parser
from ingest.__main__ import make_parser as ingest_parser
from ingest.connection import ListenOn
from ingest.settings import Flags, client_properties, kafka_client, port, seconds, size, stream_flag

PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {"ingest": ingest_parser, "archiver": archiver_parser}
NEEDED = {"ingest": ["--stream", "s"], "archiver": ["--data-dir", "d"]}


VARIABLES = {name for make in PARSERS.values() for name in re.findall(r"\[([A-Z][A-Z_]+)", make().format_help())}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this shell or CI has set says nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def refused(capsys: pytest.CaptureFixture[str], command: str, *args: str) -> str:
    """Parse what must be refused as wrong usage; the message."""
    with pytest.raises(SystemExit) as exit_:
        PARSERS[command]().parse_args([*NEEDED[command], *args])
    assert exit_.value.code == 2
    return capsys.readouterr().err


# -- types of flags -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("4096", 4096),
        ("7B", 7),
        ("500MB", 500_000_000),
        ("256MiB", 256 << 20),
        ("256mib", 256 << 20),
        (" 16 GiB ", 16 << 30),
        ("3KiB", 3072),
        ("3kB", 3000),
        ("2TB", 2 * 10**12),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0GiB", "-1", "1.5GiB", "GiB", "1 G", "1PiB", "1e9", "1GiB\n2", "nan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no size"):
        size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", 5), ("0.25", 0.25), ("600", 600), ("1e3", 1000), ("0.001", 0.001)]
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "-0.5", "nan", "inf", "-inf", "1e10", "5s", "0.0001", "five"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no time"):
        seconds(text)


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("50000", 50000), ("65535", 65535)])
def test_ports(text: str, expected: int) -> None:
    assert port(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1.0", "http", "5 ", "9" * 5000])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="no port"):
        port(text)


@given(st.text(max_size=12), st.sampled_from([size, seconds, port, stream_flag]))
def test_any_text_is_a_value_or_refused(text: str, kind: Callable[[str], object]) -> None:
    with suppress(argparse.ArgumentTypeError):
        assert kind(text)


# -- flag, variable, default ----------------------------------------------------------------------------------


def flags() -> Flags:
    """Those of a command `tool`."""
    made = Flags("tool", "what it does", "examples: tool --time-per-file 5")
    made.option("--time-per-file", type=seconds, default="600", help="how long")
    made.option("--name", required=True, help="who")
    made.option("--item", action="append", type=int, default=[], help="which")
    made.option("--level", env="LEVEL", default="info", help="how much")
    return made


def test_the_flag_beats_the_variable_and_the_variable_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags().parse_args(["--name", "a"]).time_per_file == 600
    monkeypatch.setenv("TOOL_TIME_PER_FILE", "60")
    assert flags().parse_args(["--name", "a"]).time_per_file == 60
    assert flags().parse_args(["--name", "a", "--time-per-file", "6"]).time_per_file == 6


def test_a_variable_satisfies_what_is_required(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        flags().parse_args([])
    assert "--name" in capsys.readouterr().err
    monkeypatch.setenv("TOOL_NAME", "")
    with pytest.raises(SystemExit):
        flags().parse_args([])
    monkeypatch.setenv("TOOL_NAME", "me")
    assert flags().parse_args([]).name == "me"


def test_a_variable_with_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_NAME", "me")
    monkeypatch.setenv("TOOL_LEVEL", "wrong")
    monkeypatch.setenv("LEVEL", "debug")
    assert flags().parse_args([]).level == "debug"


def test_a_list_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags().parse_args(["--name", "a"]).item == []
    monkeypatch.setenv("TOOL_ITEM", " 1 2  3 ")
    assert flags().parse_args(["--name", "a"]).item == [1, 2, 3]


def test_a_list_of_flags_beats_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_ITEM", "1 2")
    assert flags().parse_args(["--name", "a", "--item", "3"]).item == [3]


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


# -- client.properties ----------------------------------------------------------------------------------------


def test_client_properties(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("# comment\n! too\n\n a.b = c=d \nempty=\nsasl.password=p#w!ü\r\na.c=1\n", encoding="utf-8")
    assert client_properties(str(path)) == {"a.b": "c=d", "empty": "", "sasl.password": "p#w!ü", "a.c": "1"}


@pytest.mark.parametrize("line", ["sasl.password hunter2", "hunter2", "=hunter2", " = hunter2"])
def test_errors_in_client_properties_say_where_and_tell_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    path = tmp_path / "client.properties"
    path.write_text(f"a=b\n\n{line}\n")
    said = refused(capsys, "ingest", "--kafka-config", str(path))
    assert "line 3" in said
    assert str(path) in said
    assert "hunter2" not in said


@pytest.mark.parametrize("content", [None, b"sasl.password=hunter2\xff\xfe\n"])
def test_unreadable_client_properties_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    path = tmp_path / "client.properties"
    if content:
        path.write_bytes(content)
    said = refused(capsys, "archiver", "--kafka-config", str(path))
    assert str(path) in said
    assert "hunter2" not in said


def test_which_kafka_setting_wins(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("bootstrap.servers=file:1\nlinger.ms=9\n")
    ours: Mapping[str, str | int | bool] = {"linger.ms": 2, "acks": "all"}

    def config(*args: str) -> dict[str, object]:
        return dict(kafka_client(ingest_parser().parse_args(["--stream", "s", *args]), ours))

    plain = config()
    assert (plain["bootstrap.servers"], plain["linger.ms"], plain["acks"]) == ("localhost:9092", 2, "all")
    filed = config("--kafka-config", str(path))
    assert (filed["bootstrap.servers"], filed["linger.ms"], filed["acks"]) == ("file:1", "9", "all")
    flagged = config("--kafka-config", str(path), "--bootstrap-servers", "flag:1")
    assert (flagged["bootstrap.servers"], flagged["linger.ms"]) == ("flag:1", "9")


# -- the two commands -----------------------------------------------------------------------------------------


def test_ingest_takes_every_documented_option(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("a=b")
    text = f"""--stream crate1slot2 --address host --port 4532 --listen 10.0.0.1:50001 --timeout 7.5
        --max-frame-size 1GiB --bootstrap-servers a:1,b:2 --kafka-config {tmp_path}/p --topic-config k=v=w
        --topic-config l= --replication-factor 3 --spool-dir {tmp_path} --spool-size 2GiB --log-level DEBUG"""
    assert vars(ingest_parser().parse_args(text.split())) == {
        "stream": "crate1slot2",
        "address": "host",
        "port": 4532,
        "listen": ListenOn("10.0.0.1", 50001),
        "timeout": 7.5,
        "max_frame_size": 1 << 30,
        "bootstrap_servers": "a:1,b:2",
        "kafka_config": {"a": "b"},
        "topic_config": [("k", "v=w"), ("l", "")],
        "replication_factor": 3,
        "spool_dir": tmp_path,
        "spool_size": 2 << 30,
        "log_level": "debug",
    }


def test_ingest_defaults() -> None:
    options = ingest_parser().parse_args(["--stream", "s"])
    assert (options.address, options.port, options.listen, options.timeout) == ("localhost", 50000, None, 5)
    assert (options.max_frame_size, options.spool_size, options.log_level) == (256 << 20, 16 << 30, "info")
    assert (options.topic_config, options.replication_factor, options.kafka_config) == ([], None, {})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("50000", ListenOn("", 50000)),
        (":5", ListenOn("", 5)),
        ("h:5", ListenOn("h", 5)),
        ("[::1]:5", ListenOn("::1", 5)),
    ],
)
def test_listen(text: str, where: ListenOn) -> None:
    assert ingest_parser().parse_args(["--stream", "s", "--listen", text]).listen == where


def test_archiver_takes_every_documented_option() -> None:
    text = """--data-dir /data --time-per-file 60 --gap 3 --name-format ctime --carry Observation --carry Wiring
        --stream a --stream b --group g --instance-id i --bootstrap-servers a:1 --log-level error"""
    options = archiver_parser().parse_args(text.split())
    assert (options.data_dir, options.time_per_file, options.gap) == (Path("/data"), 60, 3)
    assert (options.name_format, options.carry, options.stream) == ("ctime", ["Observation", "Wiring"], ["a", "b"])
    assert (options.group, options.instance_id, options.log_level) == ("g", "i", "error")


def test_archiver_defaults() -> None:
    options = archiver_parser().parse_args(["--data-dir", "d"])
    assert (options.time_per_file, options.gap, options.name_format, options.group) == (600, 10, "date", "archiver")
    assert (options.stream, options.carry, options.instance_id) == ([], [], None)


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
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    parser = PARSERS[command]()
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--help"])
    assert exit_.value.code == 0
    said = capsys.readouterr().out
    assert "examples:" in said
    for action in parser._actions:
        flag = action.option_strings[-1]
        assert flag in said
        if flag not in ("--help", "--version"):
            named = {"--bootstrap-servers": "KAFKA_BOOTSTRAP_SERVERS", "--log-level": "LOGLEVEL"}
            assert named.get(flag, f"{command}_{flag[2:]}".upper().replace("-", "_")) in said


@pytest.mark.parametrize("command", PARSERS)
def test_the_module_runs(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", command, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{command} \d+\.\d+\.\d+\S*\n", done.stdout)
    wrong = subprocess.run([sys.executable, "-m", command, "--wat"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "Traceback" not in wrong.stderr
