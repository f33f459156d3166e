"""What a page shows: its commands with their output, its Python programs, and its files, in order."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PAGES: Sequence[Path] = (
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*") if path.suffix in (".md", ".rst")),
)
_PROMPT = "$ "
_WRITTEN = ("toml", "ini", "yaml", "properties", "conf", "sql")
_NAMED = re.compile(r"(?:#|;|--) (\S+\.\w+)\n")
_DIRECTIVE = re.compile(r"\{code-block\}\s*(\w+)")
_RST_BLOCK = re.compile(r"( *)\.\. code-block:: *(\w+)")


class NotACommandError(Exception):
    """A block `console` doesn't begin with a command."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code. line: its first, counted from 1. language: empty if it has none, or is only indented."""

    line: int
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command, and what the page shows of its output; nothing if it is empty."""

    line: int
    text: str
    output: Sequence[str]


@dataclass(frozen=True, slots=True)
class Program:
    """An example in Python, and what the page shows of its output."""

    line: int
    text: str
    output: Sequence[str]

    @property
    def needs_so3g(self) -> bool:
        """Whether it must run where so3g and sotodlib are."""
        return re.search(r"^\s*(from|import) (so3g|sotodlib)", self.text, re.MULTILINE) is not None


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that the page shows whole, with its name."""

    line: int
    name: str
    text: str


Step = Command | Program | WrittenFile


def name_of(page: Path) -> str:
    """Return how a page is called here: its path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """Return the page's blocks of code."""
    text = page.read_text()
    return list(_rst_blocks(text) if page.suffix == ".rst" else _markdown_blocks(text))


def steps(page: Path) -> list[Step]:
    """Return what is to be done, in order. Raises NotACommandError."""
    found: list[Step] = []
    all_blocks = blocks(page)
    for number, block in enumerate(all_blocks):
        if block.language == "console":
            found += _commands(block)
        elif block.language == "python":
            after = all_blocks[number + 1] if number + 1 < len(all_blocks) else None
            lines = block.line + 1 + block.text.count("\n")
            is_output = after and after.language == "text" and after.line - lines <= 3
            output = after.text.splitlines() if after and is_output else []
            found.append(Program(block.line, block.text, output))
        elif block.language in _WRITTEN and (match := _NAMED.match(block.text)):
            found.append(WrittenFile(block.line, match[1], block.text))
    return found


def _commands(block: Block) -> Iterator[Command]:
    """Yield a block's commands. Raises NotACommandError."""
    lines = block.text.splitlines()
    at = 0
    while at < len(lines):
        first = at
        if not lines[at].startswith(_PROMPT):
            raise NotACommandError(f"line {block.line + at}: {lines[at]!r} doesn't begin with {_PROMPT!r}")
        while lines[at].endswith("\\") and at + 1 < len(lines):
            at += 1
        command = "\n".join([lines[first].removeprefix(_PROMPT), *lines[first + 1 : at + 1]])
        at += 1
        begin = at
        while at < len(lines) and not lines[at].startswith(_PROMPT):
            at += 1
        yield Command(block.line + first, command, lines[begin:at])


def _markdown_blocks(text: str) -> Iterator[Block]:
    for token in MarkdownIt("commonmark").parse(text):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "fence":
            directive = _DIRECTIVE.match(token.info)
            yield Block(line + 1, directive[1] if directive else token.info.strip(), token.content)
        elif token.type == "code_block":
            yield Block(line, "", token.content)


def _rst_blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a page in reStructuredText: those with a language, and literal ones."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        match = _RST_BLOCK.fullmatch(line)
        if not match and not (line.endswith("::") and not line.lstrip().startswith("..")):
            continue
        depth = len(line) - len(line.lstrip())
        end = begin = next((n for n in range(at + 1, len(lines)) if lines[n].strip()), len(lines))
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > depth):
            end += 1
        inside = [it for it in lines[begin:end]]
        margin = min((len(it) - len(it.lstrip()) for it in inside if it.strip()), default=0)
        content = "\n".join(it[margin:] for it in inside).rstrip("\n") + "\n"
        yield Block(begin + 1, match[2] if match else "", content)
