"""Wrong values of flags, and typos: exit code 2, and one line that says what is wrong."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from archiver.__main__ import COMMANDS, make_command_parser
from archiver.__main__ import main as archiver_main
from archiver.__main__ import make_parser as archiver_parser
from g3stream.service.arguments import EnvArgumentParser
from ingest.__main__ import main as ingest_main
from ingest.__main__ import make_parser as ingest_parser

PARSERS: dict[str, Callable[[], EnvArgumentParser]] = {
    "ingest": ingest_parser,
    "archiver": archiver_parser,
    **{f"archiver {name}": partial(make_command_parser, name) for name in COMMANDS},
}
REQUIRED = {"--stream": "s", "--data-dir": "d", "--offset": "1"}
ODD = (
    *("", " ", "-1", "-5m", "0", "0.0", "1e400", "nan", "inf", "9" * 40, "-" + "9" * 4000, "a" * 5000, "1_000", "+5"),
    *("\u0661\u0662", "x\ny", "\x1b[31m", "/nowhere/at/all", ".", "10 m", "1h30", "25:00", "10:60", "9999-12-31"),
    *("0001-01-01", "-999999999w", "localhost:", ":", "::1", "h:70000", "http://", "http://h:99999999/", "=", "=b"),
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove variables that the shell or CI has set."""
    for name in os.environ:
        if name.startswith(("INGEST_", "ARCHIVER_", "KAFKA_", "LOGLEVEL")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def message(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line of an error."""
    usage, _, error = capsys.readouterr().err.partition("error: ")
    assert usage.startswith("usage: ")
    assert error.count("\n") == 1
    assert error.endswith("\n")
    assert error.strip().isprintable()
    assert len(error) < 1200
    return error.strip()


@pytest.mark.parametrize("program", PARSERS)
def test_any_value_is_taken_or_refused_in_one_line(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = PARSERS[program]()
    for argument in parser.arguments:
        if argument.nargs == 0 or not argument.option_strings:
            continue
        flag = argument.option_strings[0]
        for odd in ODD:
            try:
                parser.parse_args([f"{flag}={odd}"])
            except SystemExit:
                message(capsys)  # "error:", and so exit code 2


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("archiver --data-dir", ""),
        ("archiver --data-dir=d --private-dir", ""),
        ("archiver --data-dir=d --gap", "\u0661\u0662"),
        ("archiver --data-dir=d --gap", "1_0"),
        ("archiver --data-dir=d --gap", "1h30"),
        ("archiver --data-dir=d --bootstrap-servers", ""),
        ("archiver --data-dir=d --bootstrap-servers", "kafka1:9092,,kafka2:9092"),
        ("archiver --data-dir=d --bootstrap-servers", "kafka1:"),
        ("archiver --data-dir=d --bootstrap-servers", "http://kafka1:99999"),
        ("archiver --data-dir=d --http", "::1"),
        ("archiver files --since", "25:00"),
        ("archiver files --since", "tomorrow"),
        ("archiver close --stream=s --why", ""),
        ("archiver close --stream=s --why", "\u00e9teint"),
        ("archiver quarantine --stream=s --offset=1 --why", "x" * 201),
        ("archiver quarantine --stream=s --offset", "-1"),
        ("archiver retire --data-dir=d --missing --who", " "),
        ("ingest --stream=s --spool-dir", ""),
        ("ingest --stream=s --address", " "),
        ("ingest --stream=s --address", "smurf-srv01:4532"),
        ("ingest --stream=s --address", "tcp://smurf-srv01"),
        ("ingest --stream=s --port", "\u0661\u0662"),
        ("ingest --stream=s --replication-factor", "\u0663"),
        ("ingest --stream=s --max-frame-size", "9" * 40),
        ("ingest --stream=s --spool-size", "2000000TB"),
        ("ingest --stream=s --kafka-config", "."),
        ("ingest --streams", "."),
        ("ingest --streams", "nowhere.toml"),
    ],
)
def test_what_would_be_misunderstood_is_refused(command: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *arguments = command.split()
    with pytest.raises(SystemExit, match="2"):
        {"ingest": ingest_main, "archiver": archiver_main}[program]([*arguments, value])
    message(capsys)


@pytest.mark.parametrize(
    "servers",
    ["kafka1", "kafka1:9092,kafka2:9092", "SASL_SSL://kafka1:9093", "[::1]:9092", "::1", "10.0.0.1:9092, b:1"],
)
def test_brokers_as_librdkafka_takes_them(servers: str) -> None:
    assert archiver_parser().parse_args(["--data-dir=d", "--bootstrap-servers", servers]).bootstrap_servers == servers


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("archiver statsu", "status"),
        ("archiver rnu --data-dir d", "run"),
        ("archiver run verfy", "verify"),
        ("archiver --data-dri d", "--data-dir"),
        ("archiver run --data-dir d --time-per-flie 60", "--time-per-file"),
        ("archiver verify --data-dri d", "--data-dir"),
        ("archiver files --sinc -1h", "--since"),
        ("archiver files --since 1h", "-1h"),
        ("archiver --data-dir d --name-format dat", "date"),
        ("archiver --data-dir d --checksums besides", "beside"),
        ("archiver --data-dir d --carry Observatio", "Observation"),
        ("archiver --data-dir d --log-level inof", "info"),
        ("archiver replay --data-dir d --name-format sessoin", "session"),
        ("ingest --straem s", "--stream"),
        ("ingest --stream s --log-format jsn", "json"),
        ("ingest --streams streams.toml", "port"),
    ],
)
def test_a_typo_gets_did_you_mean(command: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("streams.toml").write_text('[[stream]]\nname = "a"\nprot = 4532\n')
    program, *arguments = command.split()
    with pytest.raises(SystemExit, match="2"):
        {"ingest": ingest_main, "archiver": archiver_main}[program](arguments)
    assert f"did you mean {meant}?" in message(capsys)


@pytest.mark.parametrize("zone", ["UTC", "America/Santiago"])
@pytest.mark.parametrize(
    "since", ["1970-01-01", "9999-12-31", "-999999999w", "today", "yesterday", "10:00", "-1h30m"]
)
def test_times_at_the_ends_of_the_calendar_in_any_zone(
    since: str, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    assert make_command_parser("files").parse_args(["--since", since, "--local-time"]).since


def test_a_range_of_times_that_is_empty_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        archiver_main(["replay", "--data-dir", "d", "--since", "today", "--until", "yesterday"])
    assert message(capsys) == "--since is after --until"
