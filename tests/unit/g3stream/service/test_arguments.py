"""Types of flags, and a variable for each flag: which wins, and what is refused."""

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
    """argparse alone takes it for another flag."""
    made = EnvArgumentParser("tool", "what it does", "examples: none")
    made.add_argument("--since")
    made.add_argument("--name")
    assert made.parse_args(args).since == expected


@pytest.mark.parametrize("args", [["--since"], ["--since", "--name", "b"], ["--since", "-h2"], ["-2h"]])
def test_what_is_no_time_before_now_is_no_flags_value(args: list[str]) -> None:
    made = EnvArgumentParser("tool", "what it does", "examples: none")
    made.add_argument("--since")
    made.add_argument("--name")
    with pytest.raises(SystemExit):
        made.parse_args(args)


# -- flag, variable, default ----------------------------------------------------------------------------------


def flags() -> EnvArgumentParser:
    """Those of a command `tool`."""
    made = EnvArgumentParser("tool", "what it does", "examples: tool --time-per-file 5")
    made.add_option("--time-per-file", type=seconds, default="600", help="how long")
    made.add_option("--name", required=True, help="who")
    made.add_option("--item", action="append", type=int, default=[], help="which")
    made.add_option("--level", env="LEVEL", default="info", help="how much")
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
