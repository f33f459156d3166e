"""Command line arguments: the types of flags, and which of flag, variable and default wins."""

import argparse
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g3stream.service.arguments import EnvArgumentParser, port, seconds, size, stream_flag


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
def test_an_invalid_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a size"):
        size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("5", 5), ("0.25", 0.25), ("600", 600), ("1e3", 1000), ("0.001", 0.001)]
)
def test_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "-0.5", "nan", "inf", "-inf", "1e10", "5x", "0.0001", "five"])
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a duration"):
        seconds(text)


@pytest.mark.parametrize(("text", "expected"), [("1", 1), ("50000", 50000), ("65535", 65535)])
def test_ports(text: str, expected: int) -> None:
    assert port(text) == expected


@pytest.mark.parametrize("text", ["", "0", "65536", "-1", "1.0", "http", "5 ", "9" * 5000])
def test_an_invalid_port_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a port"):
        port(text)


@given(st.text(max_size=12), st.sampled_from([size, seconds, port, stream_flag]))
def test_any_text_is_a_value_or_refused(text: str, kind: Callable[[str], object]) -> None:
    with suppress(argparse.ArgumentTypeError):
        assert kind(text)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--since", "-2h"], "-2h"),
        (["--since=-2h"], "-2h"),
        (["--since", "-1.5d", "--name", "b"], "-1.5d"),
        (["--since", "2026-11-22"], "2026-11-22"),
    ],
)
def test_a_time_before_now_is_a_flags_value(args: list[str], expected: str) -> None:
    """argparse alone would take it for another flag."""
    parser = EnvArgumentParser("tool", "what it does")
    parser.add_argument("--since")
    parser.add_argument("--name")
    assert parser.parse_args(args).since == expected


@pytest.mark.parametrize("args", [["--since"], ["--since", "--name", "b"], ["--since", "-h2"], ["-2h"]])
def test_an_argument_that_is_no_time_before_now_is_not_a_flags_value(args: list[str]) -> None:
    parser = EnvArgumentParser("tool", "what it does")
    parser.add_argument("--since")
    parser.add_argument("--name")
    with pytest.raises(SystemExit):
        parser.parse_args(args)


# -- flag, variable, default ----------------------------------------------------------------------------------


def flags() -> EnvArgumentParser:
    """The parser of a command `tool`."""
    parser = EnvArgumentParser("tool", "what it does\n\nexamples:\n  tool --time-per-file 5")
    parser.add_option("--time-per-file", type=seconds, default="600", help="how long")
    parser.add_option("--name", required=True, help="who")
    parser.add_option("--item", action="append", type=int, default=[], help="which")
    parser.add_option("--level", env="LEVEL", default="info", help="how much")
    return parser


def test_the_flag_beats_the_variable_and_the_variable_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert flags().parse_args(["--name", "a"]).time_per_file == 600
    monkeypatch.setenv("TOOL_TIME_PER_FILE", "60")
    assert flags().parse_args(["--name", "a"]).time_per_file == 60
    assert flags().parse_args(["--name", "a", "--time-per-file", "6"]).time_per_file == 6


def test_a_variable_satisfies_a_required_flag(
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


def test_a_variable_may_have_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(("text", "expected"), [("10m", 600.0), ("90s", 90.0), ("1h30m", 5400.0), ("1.5m", 90.0)])
def test_a_duration_may_have_units(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["10x", "m", "1h30", "-5m", "0s", "1m1m1m1m1m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a duration"):
        seconds(text)


def test_a_flag_with_a_typing_error_is_answered_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parser = EnvArgumentParser("ingest", "text")
    parser.add_option("--spool-size", type=size, help="how much")
    with pytest.raises(SystemExit) as exited:
        parser.parse_args(["--spoolsize", "1MB"])
    assert exited.value.code == 2
    assert "did you mean --spool-size?" in capsys.readouterr().err
