"""Tables on terminals of any width: every line fits, no word is broken, and the long text is whole."""

from hypothesis import given
from hypothesis import strategies as st

from archiver.console.tables import Table, fitted, plain

CELL = st.text("abcdefgh0123", max_size=14)
TEXT = st.lists(st.text("abcxyz", min_size=1, max_size=12), max_size=30).map(" ".join)


def table_of(rows: list[tuple[str, ...]]) -> Table:
    return Table(("one", " two", "three", "text"), rows, frozenset({3}))


@given(st.lists(st.tuples(CELL, CELL, CELL, TEXT), max_size=6), st.integers(60, 200))
def test_every_line_fits_and_the_long_text_is_whole(rows: list[tuple[str, ...]], width: int) -> None:
    lines = [line for line, _ in fitted([table_of(rows)], width)]
    assert all(len(line) <= width for line in lines)
    words = " ".join(" ".join(lines).split())
    for row in rows:
        assert row[3] in words


def test_a_column_that_grows_is_cut_on_a_terminal() -> None:
    lines = [*fitted([Table(("stream", " lag"), [("n" * 64, "12")])], 40)]
    assert all(len(line) <= 40 for line, _ in lines)
    assert "…" in lines[1][0]
    assert lines[1][0].endswith("12")


def test_piped_each_row_is_a_line_with_every_cell_whole() -> None:
    long = "n" * 64
    assert plain([Table(("stream", "text"), [(long, "a b " * 50)], frozenset({1}))]).splitlines()[1].startswith(long)


def test_a_column_that_another_one_repeats_is_left_out_where_the_table_does_not_fit() -> None:
    table = Table(("stream", "file"), [("s" * 30, "s" * 30)], frozenset({1}), omitted=frozenset({0}))
    assert sum("s" * 30 in line for line, _ in fitted([table], 50)) == 1


def test_a_sentence_breaks_between_words() -> None:
    text = "- " + "the topic g3.frames.x has " * 10
    lines = [line for line, _ in fitted([text], 60)]
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(lines).split() == text.split()
