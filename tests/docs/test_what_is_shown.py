"""How pages show commands: in blocks that are executed, or that a named test executes; and what counts as shown."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.elsewhere import TABLE, Elsewhere, where_executed
from tests.docs.pages import PAGES, ROOT, WrittenFile, blocks, name_of, steps
from tests.docs.setups import SET_UPS
from tests.docs.shown_output import is_as_shown

OURS = re.compile(
    r"^\s*(\$ |sudo |\.venv/bin/|(g3-)?(ingest|archiver) |python3? -m |make |docker |"
    r"pip install |systemctl |kafka-\w+\.sh |sha256sum |sqlite3 |curl |git clone )",
    re.MULTILINE,
)
"""How lines begin that are commands."""


def not_executed(page: Path) -> list[str]:
    """Return the blocks in which commands stand that aren't executed."""
    in_blocks = [block for block in blocks(page) if block.language in ("", "sh", "bash", "shell")]
    return [f"{name_of(page)}:{block.line}" for block in in_blocks if OURS.search(block.text)]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_stand_in_blocks_that_are_executed(page: Path) -> None:
    assert not_executed(page) == []


def test_set_ups_are_of_pages_that_exist() -> None:
    assert {*SET_UPS} <= {*map(name_of, PAGES)}


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.command)
def test_a_command_executed_elsewhere_is_shown_and_the_named_test_has_it(entry: Elsewhere) -> None:
    pages = [page for page in PAGES if entry.page in ("", name_of(page))]
    shown = [
        (step.text, name_of(page)) for page in pages for step in steps(page) if not isinstance(step, WrittenFile)
    ]
    assert any(where_executed(text, page) is entry for text, page in shown), "no page shows such a command"
    path, _, function = entry.test.partition("::")
    source = (ROOT / path).read_text()
    if path == "Makefile":
        assert re.search(rf"^{function}:", source, re.MULTILINE)
    elif function:
        names = [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        assert function in names
    assert [word for word in entry.words if word not in source] == []


@pytest.mark.parametrize(
    ("printed", "shown", "expected"),
    [
        ("anything\n", [], True),
        ("12 files, 3.4 MB in 2 min\n\nok\n", ["1 files, 999 kB  in 10 s", "ok"], True),
        ("12 files\nok\n", ["12 files"], False),
        ("for 31 s, 4 files\n", ["for 1 h 2 min, 4 files"], True),
        ("12 files\nok\n", ["12 files", "..."], True),
        ("a\nb\nc\n", ["a", "...", "c"], True),
        ("a\nc\n", ["a", "...", "c"], True),
        ("a\nb\n", ["a", "...", "c"], False),
        ("recording to /data, group archiver\n", ["recording to ..., group archiver"], True),
        ("17536/crate1slot2/2025-07-27-21-30-00_000.g3\n", ["17953/crate1slot2/2026-11-22-21-30-00_001.g3"], True),
        ("17536/crate1slot2/2025-07-27-21-30-00_000.g3\n", ["17536/crate1slot2/2025-07-27-21-30-00_000.bin"], False),
        ("all is well\n", ["all isn't well"], False),
    ],
)
def test_what_counts_as_shown(printed: str, shown: list[str], expected: bool) -> None:
    assert is_as_shown(printed, shown) is expected
