"""Elements of a drawing in SVG that is readable on a light and on a dark page, without fonts or scripts of others."""

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

_STYLE = """\
  .paper { fill: #ffffff; stroke: #d0d4da }
  .line { fill: none; stroke: #5b6472; stroke-width: 1.5 }
  .thin { fill: none; stroke: #aab2bd; stroke-width: 1 }
  .head { fill: #5b6472 }
  .node { fill: #eaf2fb; stroke: #2a6fb0; stroke-width: 1.5 }
  .bar { fill: #a9cdf0; stroke: #2a6fb0 }
  .mark { fill: #e8a33d; stroke: #96620f }
  .repeated { stroke-dasharray: 2 2; fill-opacity: 0.45 }
  text { font: 13px system-ui, sans-serif; fill: #1f2933 }
  text.strong { font-weight: 600 }
  text.small { font-size: 11.5px }
  text.faint { fill: #5b6472 }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #1a1d21; stroke: #3a4048 }
    .line { stroke: #a7b0bc } .head { fill: #a7b0bc } .thin { stroke: #5b6472 }
    .node { fill: #1d3147; stroke: #6fb1ee }
    .bar { fill: #2c5f92; stroke: #6fb1ee }
    .mark { fill: #e8a33d; stroke: #f7d08a }
    text { fill: #e6eaef } text.faint { fill: #a7b0bc }
  }"""


def drawing(width: int, height: int, title: str, description: str, elements: Sequence[str]) -> str:
    """Return the drawing, on a background of its own: a page's theme may differ from the reader's system."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
            f' height="{height}" role="img" aria-label={quoteattr(title)}>',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(description)}</desc>",
            f"<style>\n{_STYLE}\n</style>",
            '<defs><marker id="arrow" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
            ' orient="auto"><path class="head" d="M0 0 L10 5 L0 10 z"/></marker></defs>',
            f'<rect class="paper" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            *elements,
            "</svg>\n",
        ]
    )


def box(x: float, y: float, width: float, height: float, name: str = "node") -> str:
    """Return a box with round corners; name: its class."""
    return f'<rect class="{name}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'


def bar(x: float, y: float, width: float, height: float, name: str = "bar") -> str:
    """Return a box with square corners; name: its class."""
    return f'<rect class="{name}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'


def path(d: str, *, arrow: bool = False, name: str = "line") -> str:
    """Return a path, perhaps with an arrow at its end; name: its class."""
    marker = ' marker-end="url(#arrow)"' if arrow else ""
    return f'<path class="{name}" d="{d}"{marker}/>'


def text(x: float, y: float, lines: Sequence[str], anchor: str = "start", name: str = "") -> str:
    """Return lines of text below each other. anchor: which end of them is at x. name: classes."""
    spans = "".join(f'<tspan x="{x:g}" y="{y + 16 * n:g}">{escape(line)}</tspan>' for n, line in enumerate(lines))
    return f'<text class="{name}" text-anchor="{anchor}">{spans}</text>'
