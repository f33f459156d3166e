"""Write the man pages of ingest, archiver and archiver's commands, made from their parsers: `make man`.

argparse-manpage fills the tables in our docstrings as if they were prose, and names the pages ARCHIVER(FILES).
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from itertools import groupby
from pathlib import Path

from g3stream.service.arguments import EnvArgumentParser

_COLUMNS = 80
_INDENT = 7
"""Columns by which man indents a section's text."""
_SPECIAL = {"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_ROW = re.compile(r"(\S.*?) {2,}(\S.*)")
_ITEM = re.compile(r"  (?!archiver |ingest )\S")
_SECTIONS = {"examples:": "EXAMPLES", "exit codes:": "EXIT STATUS"}
BUILDER = {"XDG_STATE_HOME": "~/.local/state", "COLUMNS": str(_COLUMNS - _INDENT), "NO_COLOR": "1"}
"""Of the environment, so that the pages don't depend on who makes them where."""


def man_page(parser: EnvArgumentParser, summary: str, see_also: Iterable[str]) -> str:
    """Return the page of a program or command, as roff. summary: for NAME. see_also: other pages' names."""
    name = parser.prog.replace(" ", "-")
    release = f"g3-recorder {version('g3-recorder')}"
    usage = parser.format_usage().removeprefix("usage: ").rstrip().split("\n")
    # No hyphenation and no justification: they cut flags in two, and pull text apart.
    lines = [f'.TH {_escaped(name.upper())} 1 "" "{_escaped(release)}" "g3-recorder"', ".nh", ".ad l"]
    lines += [".SH NAME", f"{_escaped(name)} \\- {_escaped(summary)}", ".SH SYNOPSIS"]
    lines += _verbatim([line.removeprefix("       ") for line in usage])
    lines += [".SH DESCRIPTION", *_prose(parser.description or "", with_items=True), ".SH OPTIONS"]
    for argument in parser.arguments:
        lines += [".TP", _invocation(argument), _escaped(help_text(argument))]
    lines += _after_options(parser.epilog or "")
    lines += [".SH SEE ALSO", ",\n".join(f"\\fB{_escaped(other)}\\fR(1)" for other in see_also if other != name)]
    return "\n".join(lines) + "\n"


def commands() -> list[tuple[EnvArgumentParser, str]]:
    """Return the parsers of all programs and commands, and what each does."""
    # Imported here: they have defaults from the environment.
    import archiver.__main__
    import ingest.__main__

    return [
        (ingest.__main__.make_parser(), "read G3 frames from TCP and publish them to Kafka"),
        (archiver.__main__.make_parser(), "record G3 streams from Kafka as .g3 files"),
        *((archiver.__main__.make_command_parser(name), what) for name, what in archiver.__main__.COMMANDS.items()),
    ]


def write_pages(directory: Path) -> None:
    """Write all pages to this directory."""
    pages = commands()
    names = [parser.prog.replace(" ", "-") for parser, _ in pages]
    directory.mkdir(parents=True, exist_ok=True)
    for name, (parser, summary) in zip(names, pages, strict=True):
        (directory / f"{name}.1").write_text(man_page(parser, summary, names))


def _invocation(argument: argparse.Action) -> str:
    value = "" if argument.nargs == 0 else str(argument.metavar or "|".join(map(str, argument.choices or ())))
    value = f"[{value}]" if argument.nargs == "?" else value
    value = f" \\fI{_escaped(value)}\\fR" if value else ""
    return ", ".join(f"\\fB{_escaped(flag)}\\fR{value}" for flag in argument.option_strings) or value.lstrip()


def help_text(argument: argparse.Action) -> str:
    """Return what --help says of an argument, whoever asks where."""
    # The default of --who is the builder's name.
    return (argument.help or "") % {"default": "shown by --help"}


def _after_options(text: str) -> Iterator[str]:
    """Yield what --help shows below the options: its sections, those with a heading of their own last."""
    sections: dict[str, list[str]] = {"NOTES": [], **{title: [] for title in _SECTIONS.values()}}
    for paragraph in text.strip("\n").split("\n\n"):
        heading = next((heading for heading in _SECTIONS if paragraph.startswith(heading)), "")
        first, *more = paragraph.removeprefix(heading).split("\n")
        sections[_SECTIONS.get(heading, "NOTES")].append("\n".join([first.lstrip() if heading else first, *more]))
    for title, paragraphs in sections.items():
        if any(paragraphs):
            yield f".SH {title}"
            yield from _prose("\n\n".join(paragraphs))


def _prose(text: str, *, with_items: bool = False) -> Iterator[str]:
    """Yield text with indented tables and examples in it, as in our docstrings.

    with_items: an indented paragraph that begins with no command is an item of a list.
    """
    for paragraph in text.strip("\n").split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if with_items and is_item(lines):
            yield from (".IP \\(bu 2", *(_escaped(line.strip()) for line in lines))
            continue
        for indented, group in groupby(lines, lambda line: line.startswith(" ")):
            part = list(group)
            yield ".PP"
            if not indented:
                yield from map(_escaped, part)
            elif rows := _rows(part):
                for term, what in rows:
                    yield from (".TP", f"\\fB{_escaped(term)}\\fR", _escaped(what))
            else:
                yield from _verbatim([line[2:] for line in part])


def is_item(lines: Sequence[str]) -> bool:
    """Return whether a paragraph is an item of a list: indented, no table, no commands."""
    return all(_ITEM.match(line) for line in lines) and not _rows(lines)


def _rows(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Return the rows of a table (a term, two spaces or more, text that may continue below itself); else nothing."""
    rows: list[tuple[str, str]] = []
    for line in lines:
        depth = len(line) - len(line.lstrip())
        if depth > 2 and rows:
            rows[-1] = rows[-1][0], f"{rows[-1][1]} {line.strip()}"
        elif depth == 2 and (match := _ROW.fullmatch(line.strip())):
            rows.append((match[1], match[2]))
        else:
            return []
    return rows


def _verbatim(lines: Sequence[str]) -> Iterator[str]:
    """Yield lines as they are, indented as a section's text, or less where they wouldn't fit a terminal."""
    indent = max(0, min(_INDENT, _COLUMNS - max(map(len, lines))))
    yield from (f".in {indent}n", ".nf", *map(_escaped, lines), ".fi", ".in")


def _escaped(text: str) -> str:
    """Return text as roff: with plain quotes and hyphens, which can be pasted into a shell."""
    roff = "".join(_SPECIAL.get(c, c) for c in text.replace("…", "..."))
    roff = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in roff)
    return f"\\&{roff}" if roff.startswith(".") else roff


if __name__ == "__main__":
    os.environ.update(BUILDER)
    write_pages(Path(sys.argv[1]))
