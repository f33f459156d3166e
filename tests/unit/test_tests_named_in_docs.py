"""Tests that a document names exist: a guarantee whose test is gone is no guarantee."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_NAMED = re.compile(r"\btests/[\w/.]*\w(?:::(\w+…?))?")


def named() -> Iterator[tuple[str, str, str]]:
    """Yield each page, and each path with the name of a function; empty if it names none."""
    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for found in _NAMED.finditer(page.read_text(encoding="utf-8")):
            yield str(page.relative_to(ROOT)), found[0].partition("::")[0], found[1] or ""


@cache
def functions_of(path: str) -> frozenset[str]:
    """Return the names of the tests in a module."""
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef))


def test_each_exists() -> None:
    missing = [
        (page, path, name)
        for page, path, name in named()
        if not (ROOT / path).exists() or (name and name not in functions_of(path))
    ]
    assert not missing


def test_failures_and_guarantees_name_tests_one_by_one() -> None:
    pages = [page for page, _, name in named() if name]
    assert pages.count("docs/understand/failures.md") > 40
    assert pages.count("docs/understand/guarantees.md") > 20
