"""All commands in Markdown, made from their parsers: what docs/conf.py adds to docs/reference/commands.md."""

import argparse
import os
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from unittest.mock import patch

from man_pages import BUILDER, commands, help_text, is_item

from g3stream.service.arguments import EnvArgumentParser

_TESTBED = ("testbed.demo.__main__", "testbed.kafka.__main__", "testbed.smurf.simulator")
_SPECIAL = re.compile(r"([\\*_{}\[\]<>#|$~])")


def commands_page() -> str:
    """Return a section for each of ingest, archiver, archiver's commands, and the testbed's."""
    with patch.dict(os.environ, BUILDER):
        parts = [part for parser, summary in commands() for part in _section(parser, summary)]
        for module in _TESTBED:
            parts += _testbed_section(import_module(module).make_parser())
    return "\n\n".join(parts) + "\n"


def _section(parser: EnvArgumentParser, summary: str) -> Iterator[str]:
    yield f"## {parser.prog}"
    yield f"{summary[0].upper()}{summary[1:]}."
    yield _literal(parser.format_usage())
    yield from _prose(parser.description or "")
    yield from (f"`{_invocation(argument)}`\n: {_escaped(help_text(argument))}" for argument in parser.arguments)
    yield from _prose(parser.epilog or "")


def _testbed_section(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f"## {parser.prog}"
    yield _literal(parser.format_help())


def _invocation(argument: argparse.Action) -> str:
    value = "" if argument.nargs == 0 else str(argument.metavar or "|".join(map(str, argument.choices or ())))
    if argument.nargs != 0 and not value:
        value = argument.dest.upper()  # as argparse shows it
    value = f"[{value}]" if argument.nargs == "?" else value
    return f"{', '.join(argument.option_strings)} {value}".strip()


def _prose(text: str) -> Iterator[str]:
    """Yield text as in our docstrings: paragraphs, items of lists, and tables and examples as they are."""
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.split("\n")
        if paragraph.startswith("--"):
            yield _escaped(" ".join(line.strip() for line in lines))  # its further lines hang
        elif all(line.startswith(" ") for line in lines) and is_item(lines):
            yield f"- {_escaped(' '.join(line.strip() for line in lines))}"
        else:
            for indented, part in groupby(lines, lambda line: line.startswith(" ")):
                yield (_literal if indented else _escaped)("\n".join(part))


def _literal(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def _escaped(text: str) -> str:
    """Return text as Markdown: what is in backticks is code there, too."""
    parts = text.split("`")
    return "`".join(part if number % 2 else _SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts))
