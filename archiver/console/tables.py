"""What commands print: lines and tables, which fit the terminal that they are shown on.

On a terminal, lines break between words, and what doesn't fit into a table's row stands below it. Piped output isn't
fitted: each row is one line with every cell whole, for grep and awk.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from archiver.console.runner import print_lines
from g3stream.host.printable import printable

_INDENT = "    "
_MIN_WIDTH = 40
_MIN_CELL = 8


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text; without a style, a plain string will do."""

    text: str
    style: str = ""
    """On a terminal: a style of rich, such as `red`."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text cells under a head."""

    head: Sequence[str]
    """A heading that begins with a blank makes its column right-aligned."""
    rows: Sequence[Sequence[str]]
    below: frozenset[int] = frozenset()
    """Columns of long text: where the table doesn't fit, they stand below each row."""
    omitted: frozenset[int] = frozenset()
    """Columns that are left out where the table doesn't fit, as another one says the same."""
    styles: Sequence[str] = ()
    """Of each row, as of a line."""


Part = str | Line | Table
"""What a command prints is a sequence of parts."""


def plain(parts: Iterable[Part]) -> str:
    """Return the parts as they are piped."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, Table):
            found += _aligned(part.head, part.rows)
        else:
            found.append(part.text if isinstance(part, Line) else part)
    return "\n".join(found)


def fitted(parts: Iterable[Part], width: int) -> Iterator[tuple[str, str]]:
    """Yield the lines for a terminal of this width, each with its style; none is longer, unless a word is."""
    for part in parts:
        if isinstance(part, Table):
            yield from _fitted_table(part, width)
        else:
            text, style = (part.text, part.style) if isinstance(part, Line) else (part, "")
            first, *more = _wrapped(text, width) or [""]
            yield first, style
            yield from ((f"  {line}", style) for line in _wrapped(" ".join(more), width - 2))


def terminal_text(parts: Iterable[Part], width: int) -> Text:
    """Return what rich prints on a terminal of this width."""
    return Text("\n").join(Text(line, style=style) for line, style in fitted(parts, width))


def stdout_console() -> Console:
    """Return stdout as rich's console; its width is that of the terminal."""
    return Console(highlight=False, markup=False, emoji=False)


def print_parts(parts: Sequence[Part]) -> None:
    """Print to stdout: fitted and in colour on a terminal, else plain and whole."""
    console = stdout_console()
    if console.is_terminal:
        console.print(terminal_text(parts, console.width), soft_wrap=True)
    else:
        print_lines(plain(parts))


def _aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows in aligned columns, the head first."""
    lines = [[name.strip() for name in head], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    right = [name.startswith(" ") for name in head]
    return [
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]


def _fitted_table(table: Table, width: int) -> Iterator[tuple[str, str]]:
    styles = [*table.styles, *[""] * (len(table.rows) - len(table.styles))]
    whole = _aligned(table.head, table.rows)
    if max(map(len, whole)) <= width:
        yield from zip(whole, ["bold", *styles], strict=True)
        return
    hidden = table.below | table.omitted | _empty_columns(table)
    beside = [n for n in range(len(table.head)) if n not in hidden]
    lines = [[printable(line[n]) for n in beside] for line in (table.head, *table.rows)]
    head, *rows = _shortened(lines, width)
    narrow = _aligned(head, rows)
    yield narrow[0], "bold"
    if table.below:
        yield _INDENT + ", ".join(table.head[n].strip() for n in sorted(table.below)), "bold"
    for row, line, style in zip(table.rows, narrow[1:], styles, strict=True):
        yield line, style
        for text in (printable(row[n]) for n in sorted(table.below) if row[n]):
            yield from ((_INDENT + it, style) for it in _wrapped(text, width - len(_INDENT)))


def _empty_columns(table: Table) -> frozenset[int]:
    return frozenset(n for n in range(len(table.head)) if not any(row[n] for row in table.rows))


def _shortened(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Cut the cells of the widest columns until each row fits."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > _MIN_CELL:
        widths[widths.index(max(widths))] -= 1
    return [
        [cell if len(cell) <= most else f"{cell[: most - 1]}…" for cell, most in zip(row, widths, strict=True)]
        for row in rows
    ]


def _wrapped(text: str, width: int) -> list[str]:
    """Return the text in lines of at most `width`, broken between words only."""
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text,
        max(width, _MIN_WIDTH),
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
