"""docs/understand/segmentation.md shows what the code does: its drawings and tables are those made from it."""

from pathlib import Path

import pytest

from tests.figures.segmentation_page import PICTURES, TABLES

UNDERSTAND = Path(__file__).parents[2] / "docs" / "understand"


@pytest.mark.parametrize("name", PICTURES)
def test_each_drawing_is_as_the_code_gives_it(name: str) -> None:
    assert (UNDERSTAND / "segmentation" / name).read_text(encoding="utf-8") == PICTURES[name](), "run: make figures"


@pytest.mark.parametrize("what", TABLES)
def test_each_table_is_as_the_code_gives_it(what: str) -> None:
    text = (UNDERSTAND / "segmentation.md").read_text(encoding="utf-8")
    assert TABLES[what]() in text, "make figures prints it as it must be in segmentation.md"
