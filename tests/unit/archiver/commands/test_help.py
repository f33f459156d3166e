"""The --help of archiver's commands."""

import importlib

import pytest

from archiver.__main__ import COMMANDS
from g3stream.service.arguments import EnvArgumentParser

COLUMNS = 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_exit_codes_and_fits_a_terminal(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    parser: EnvArgumentParser = importlib.import_module(f"archiver.commands.{command}").make_parser()
    text = parser.format_help()
    assert "examples:\n" in text
    assert "exit codes:\n" in text
    assert [line for line in text.splitlines() if len(line) > COLUMNS] == []
