"""Printable text: untrusted text can't control a terminal, nor forge log lines."""

import json
import logging
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from g3stream.host.printable import printable, printable_json, printable_lines
from g3stream.log.setup import JsonLines, _Text

HOSTILE = "µ\x1b[2J\r\n2026-01-01 forged\u202e\x9b31m\udcff"


def record(message: str, exception: Any = None) -> logging.LogRecord:
    return logging.LogRecord("a", logging.ERROR, __file__, 1, "%s: it failed", (message,), exception)


def test_only_what_is_not_printable_is_escaped() -> None:
    assert printable("µ\\n …") == "µ\\n …"
    assert printable(HOSTILE) == r"µ\x1b[2J\r\n2026-01-01 forged\u202e\x9b31m\udcff"
    assert printable_lines("a\x07\nb") == "a\\x07\nb"


@given(st.text())
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_means_the_same(text: str) -> None:
    line = printable_json(json.dumps({text: [text]}, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == {text: [text]}


def test_a_log_line_is_one_printable_line_and_an_exception_is_indented_below_it() -> None:
    try:
        raise OSError(HOSTILE)
    except OSError:
        failed = record(HOSTILE, sys.exc_info())
    first, *others = _Text("%(asctime)s %(levelname)-7s %(message)s").format(failed).split("\n")
    assert first.endswith(r"ERROR   µ\x1b[2J\r\n2026-01-01 forged\u202e\x9b31m\udcff: it failed")
    assert all(line.isprintable() and line.startswith("  ") for line in others)
    assert others[0] == "  Traceback (most recent call last):"


def test_a_json_line_is_printable_and_means_the_same() -> None:
    line = JsonLines().format(record(HOSTILE))
    assert line.isprintable()
    assert json.loads(line)["message"] == HOSTILE.replace("\udcff", "?") + ": it failed"
