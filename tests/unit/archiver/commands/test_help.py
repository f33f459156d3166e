"""The --help of archiver's commands."""

import importlib
from pkgutil import resolve_name

import pytest

from archiver.__main__ import COMMANDS
from archiver.__main__ import make_parser as archiver_parser
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


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_listed_by_the_program_and_names_the_function_that_does_it(command: str) -> None:
    assert f"\n  archiver {command} " in archiver_parser().format_help()
    parser: EnvArgumentParser = importlib.import_module(f"archiver.commands.{command}").make_parser()
    assert parser.prog == f"archiver {command}"
    assert callable(resolve_name(parser.get_default("act")))
