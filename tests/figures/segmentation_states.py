"""The state machine of segmentation, drawn from its table."""

import textwrap
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from tests.figures import svg
from tests.figures.segmentation_table import Phase, table

_WIDTH, _HEIGHT = 760, 590
_NODE_WIDTH, _NODE_HEIGHT = 156, 56


class _Node(NamedTuple):
    """Where a phase is drawn."""

    x: int
    """Its centre."""
    y: int
    detail: str


class _Arrow(NamedTuple):
    """How the records that lead from one phase to another are drawn."""

    d: str
    """The path."""
    x: int
    """Of the text."""
    y: int
    anchor: str
    columns: int


_NODES: Mapping[Phase, _Node] = {
    Phase.IDLE: _Node(160, 190, "between acquisitions"),
    Phase.OPEN: _Node(600, 190, "frames are written"),
    Phase.FINISHED: _Node(380, 480, "before the same record"),
}
_ARROWS: Mapping[tuple[Phase, Phase], _Arrow] = {
    (Phase.IDLE, Phase.IDLE): _Arrow("M125 162 C105 120 205 120 190 162", 20, 42, "start", 40),
    (Phase.OPEN, Phase.OPEN): _Arrow("M565 162 C545 120 655 120 635 162", 740, 92, "end", 40),
    (Phase.FINISHED, Phase.FINISHED): _Arrow("M345 508 C335 550 425 550 415 508", 380, 562, "middle", 60),
    (Phase.IDLE, Phase.OPEN): _Arrow("M238 190 L518 190", 380, 164, "middle", 34),
    (Phase.OPEN, Phase.FINISHED): _Arrow("M602 218 C602 350 560 480 464 480", 612, 290, "start", 23),
    (Phase.FINISHED, Phase.OPEN): _Arrow("M390 452 C400 340 460 250 555 221", 330, 270, "middle", 32),
    (Phase.FINISHED, Phase.IDLE): _Arrow("M302 480 C210 480 168 350 166 221", 16, 290, "start", 23),
}


def states_drawing() -> str:
    """Return the drawing."""
    elements = []
    for (before, after), arrow in _ARROWS.items():
        elements.append(svg.path(arrow.d, arrow=True))
        indent = "" if arrow.anchor == "middle" else "\u2003"
        wrap = partial(textwrap.wrap, width=arrow.columns, subsequent_indent=indent)
        lines = [line for what in _labels(before, after) for line in wrap(what)]
        elements.append(svg.text(arrow.x, arrow.y, lines, arrow.anchor, "small"))
    for phase, node in _NODES.items():
        left, top = node.x - _NODE_WIDTH / 2, node.y - _NODE_HEIGHT / 2
        elements.append(svg.box(left, top, _NODE_WIDTH, _NODE_HEIGHT))
        elements.append(svg.text(node.x, node.y - 4, [phase.value], "middle", "strong"))
        elements.append(svg.text(node.x, node.y + 15, [node.detail], "middle", "small faint"))
    assert _ARROWS.keys() == {(before, effect.after) for (_, before), effect in table().items()}
    title = "The states of segmentation, and the records that lead from one to another"
    return svg.drawing(_WIDTH, _HEIGHT, title, "The same as the table below it on the page.", elements)


def _labels(before: Phase, after: Phase) -> Iterator[str]:
    """Yield what leads from one phase to the other: the records with the same effect in one line."""
    records: dict[str, list[str]] = {}
    for (case, phase), effect in table().items():
        if (phase, effect.after) == (before, after):
            records.setdefault(effect.words.replace("`", ""), []).append(case.label)
    for words, labels in records.items():
        yield f"{' · '.join(_shortened(labels))} → {words}"


def _shortened(labels: list[str]) -> Iterator[str]:
    """Yield the labels; of a record that does the same at all times, only its name."""
    for label in labels:
        name, comma, _ = label.partition(", ")
        if not comma or name not in labels:
            yield label
