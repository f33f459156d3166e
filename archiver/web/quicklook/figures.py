"""Line figures as percentages of their width and height: scales, ticks, paths. Pure.

Percentages, so that the same SVG fits a phone and a wall; texts are outside of what is stretched.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Point = tuple[float, float | None]
"""x and y of a value; None where there is none."""

Values = Sequence[float | None]

_PREFIXES: Final = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"))
_MIN_RATIO: Final = 10.0
"""Of a logarithmic scale's ends: with less, noise would look like structure."""
_LEAST_TICKS: Final = 3
_MANY_TICKS: Final = 7
"""Of a vertical axis, at which only decades are named."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A value on an axis. at: percent from the left, or from the top."""

    at: float
    text: str
    is_major: bool = True
    """Whether it is named where there is little room: on a vertical axis."""


@dataclass(frozen=True, slots=True)
class Path:
    """A line or an area. d: as in SVG, in a square of 100 by 100."""

    kind: str
    """Its CSS class."""
    d: str


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure."""

    title: str
    text: str
    """What it shows, in words, for those who can't see it."""
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    paths: tuple[Path, ...]

    @property
    def grid(self) -> str:
        """The grid, as the attribute `d` of an SVG path."""
        lines = [f"M{tick.at} 0V100" for tick in self.x_ticks] + [f"M0 {tick.at}H100" for tick in self.y_ticks]
        return "".join(lines)


@dataclass(frozen=True, slots=True)
class Scale:
    """Where values are on an axis, in percent from its low end."""

    low: float
    high: float
    is_log: bool

    def at(self, value: float) -> float:
        """Return where a value is; what is outside is at the end."""
        ends_and_value = self.low, self.high, min(max(value, self.low), self.high)
        low, high, value = (math.log10(it) for it in ends_and_value) if self.is_log else ends_and_value
        return round(100 * (value - low) / (high - low), 2)


def log_scale(values: Iterable[float | None], *, tight: bool = False) -> Scale | None:
    """Return a logarithmic scale of these values; None if none is positive. tight: ends at the values themselves."""
    positive = [it for it in values if it is not None and it > 0]
    if not positive:
        return None
    low, high = min(positive), max(positive)
    if tight and high > low:
        return Scale(low, high, is_log=True)
    if high < low * _MIN_RATIO:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(_MIN_RATIO), middle * math.sqrt(_MIN_RATIO)
    return Scale(low / 1.15, high * 1.15, is_log=True)


def linear_scale(values: Iterable[float | None], *, tight: bool = False) -> Scale | None:
    """Return a scale of these values with some space around, unless `tight`; None if there is none."""
    known = [it for it in values if it is not None]
    if not known:
        return None
    low, high = min(known), max(known)
    if tight and high > low:
        return Scale(low, high, is_log=False)
    space = 0.06 * (high - low) or 0.1 * abs(high) or 1e-6
    return Scale(low - space, high + space, is_log=False)


def log_ticks(scale: Scale, unit: float = 1.0) -> list[tuple[float, str, bool]]:
    """Return the values 1, 2 and 5 of each decade, as text in a unit, and whether they are major: the decades."""
    found = []
    for decade in range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1):
        found += [(digit * 10.0**decade, digit == 1) for digit in (1, 2, 5)]
    shown = [(value, is_major) for value, is_major in found if scale.low <= value <= scale.high]
    few = sum(is_major for _, is_major in shown) < 2
    return [(value, _number(value / unit), is_major or few) for value, is_major in shown]


def linear_ticks(scale: Scale, unit: float = 1.0, least: int = _LEAST_TICKS) -> list[tuple[float, str, bool]]:
    """Return some round values, as text in a unit. least: how many, or up to 2.5 times as many."""
    step = _round_step((scale.high - scale.low) / least)
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    values = [min(max(number * step, scale.low), scale.high) for number in range(first, last + 1)]  # despite rounding
    return [(value, _number(value / unit), True) for value in values]


def x_ticks(scale: Scale, values: Iterable[tuple[float, str, bool]]) -> tuple[Tick, ...]:
    """Return the ticks of a horizontal axis."""
    return tuple(Tick(scale.at(value), text, is_major) for value, text, is_major in values)


def y_ticks(scale: Scale, values: Sequence[tuple[float, str, bool]]) -> tuple[Tick, ...]:
    """Return the ticks of a vertical axis."""
    few = len(values) < _MANY_TICKS
    return tuple(Tick(round(100 - scale.at(value), 2), text, is_major or few) for value, text, is_major in values)


def line(points: Iterable[Point], x: Scale, y: Scale) -> str:
    """Return a line, as the attribute `d` of an SVG path; broken where there is no value."""
    parts, is_joined = [], False
    for at, value in points:
        if value is None or (y.is_log and value <= 0):
            is_joined = False
            continue
        parts.append(f"{'L' if is_joined else 'M'}{x.at(at)} {round(100 - y.at(value), 2)}")
        is_joined = True
    return "".join(parts)


def area(xs: Sequence[float], lower: Values, upper: Values, x: Scale, y: Scale) -> str:
    """Return the area between two lines, as the attribute `d` of an SVG path; without the values that one lacks."""
    known = [
        (at, low, high)
        for at, low, high in zip(xs, lower, upper, strict=True)
        if low is not None and high is not None and (not y.is_log or low > 0)
    ]
    if not known:
        return ""
    there = [f"{x.at(at)} {round(100 - y.at(high), 2)}" for at, _, high in known]
    back = [f"{x.at(at)} {round(100 - y.at(low), 2)}" for at, low, _ in reversed(known)]
    return f"M{'L'.join(there + back)}Z"


def log_unit_of(values: Iterable[float | None]) -> tuple[float, str]:
    """Return the unit in which the smallest of these values that is positive is readable: its size and its prefix."""
    return unit_of([min((it for it in values if it is not None and it > 0), default=None)])


def unit_of(values: Iterable[float | None]) -> tuple[float, str]:
    """Return the unit in which the largest of these values is readable: its size and its prefix."""
    largest = max((abs(it) for it in values if it is not None), default=0.0)
    return next((unit for unit in _PREFIXES if largest >= unit[0]), _PREFIXES[-1] if largest else _PREFIXES[0])


def with_unit(value: float, unit: str) -> str:
    """Return a value with 3 digits in a readable unit: 12.3 µrad."""
    size, prefix = unit_of([value])
    return f"{_number(value / size)} {prefix}{unit}"


def _number(value: float) -> str:
    shown = f"{value:.3g}"
    return shown if "e" not in shown else f"{value:.0f}" if abs(value) >= 1 else shown


def _round_step(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * it for it in (5, 2, 1) if size * it <= step * 1.001)
