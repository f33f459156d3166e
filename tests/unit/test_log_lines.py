"""The tables of warnings and errors in docs/operate/log.md have a row for each one that the product can log."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("g3stream", "ingest", "archiver", "g3_agents")
METHODS = frozenset({"warning", "error", "exception", "critical", "log"})


def logged() -> dict[str, str]:
    """Return the lines that the product logs, with … for what varies, and where each is in the code."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for call, function in _calls(ast.parse(path.read_text()), None):
                where = f"{path.relative_to(ROOT)}:{call.lineno}"
                found[_with_ellipses(_template(call, function, where))] = where
    return found


def documented() -> list[str]:
    """Return the first column of the tables."""
    text = (ROOT / "docs" / "operate" / "log.md").read_text()
    cells = (re.match(r"\| (`{1,2}) ?(.+?) ?\1 \| .+ \| .+ \|$", row) for row in text.splitlines())
    return [cell[2] for cell in cells if cell]


def _calls(node: ast.AST, function: ast.AST | None) -> Iterator[tuple[ast.Call, ast.AST | None]]:
    """Yield each call of a logger's method in `node`, with the function that it is in."""
    for child in ast.iter_child_nodes(node):
        inside = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Attribute) and child.func.attr in METHODS:
            logger = ast.unparse(child.func.value)
            if logger.rpartition(".")[2] in ("log", "_log", "logger") or logger.startswith("logging"):
                yield child, inside
        yield from _calls(child, inside)


def _template(call: ast.Call, function: ast.AST | None, where: str) -> str:
    """Return the template of a call: a literal, or a variable that the function set to one before."""
    assert isinstance(call.func, ast.Attribute)
    expression = call.args[1 if call.func.attr == "log" else 0]
    if isinstance(expression, ast.Starred):
        expression = expression.value
    if isinstance(expression, ast.Tuple):
        expression = expression.elts[0]
    if isinstance(expression, ast.Name) and function:
        name = expression.id
        values = [value for line, value in _assigned(function, name) if line < call.lineno]
        assert values, f"{where}: where is {name} set?"
        expression = values[-1]
    message = f"{where}: the template of a log line must be a literal, not {ast.unparse(expression)}"
    assert isinstance(expression, ast.Constant), message
    return str(expression.value)


def _assigned(function: ast.AST, name: str) -> Iterator[tuple[int, ast.expr]]:
    """Yield what the function assigns to a variable, alone or in a tuple, in the order of the lines."""
    for node in sorted((n for n in ast.walk(function) if isinstance(n, ast.Assign)), key=lambda n: n.lineno):
        for target in node.targets:
            if isinstance(target, ast.Name) and target.id == name:
                yield node.lineno, node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = zip(target.elts, node.value.elts, strict=True)
                yield from ((node.lineno, value) for to, value in pairs if isinstance(to, ast.Name) and to.id == name)


def _with_ellipses(template: str) -> str:
    return re.sub("…+", "…", re.sub(r"%(\.\d+)?[a-z]", "…", template))


def test_each_warning_and_error_has_its_row_and_each_row_its_line() -> None:
    lines, rows = logged(), documented()
    assert len(lines) > 90
    assert not {line: where for line, where in lines.items() if line not in rows}, "add a row, or correct it"
    assert not [row for row in rows if row not in lines], "no line of the product is like these any more"
    assert len(rows) == len(set(rows))


def test_each_line_says_more_than_what_varies() -> None:
    """Of these the whole text comes from elsewhere: an error that says what to do."""
    bare = [line for line in logged() if not re.search("[a-z]{2}", line)]
    assert set(bare) == {"…", "…: …", "…: STOPPED …"}
