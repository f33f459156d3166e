"""Which channels are monitored, and how often an average is published: values from people, checked. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Self

MAX_CHANNELS: Final = 24
"""At once: the feed is recorded with the housekeeping data, which is made for slow numbers."""
MAX_CHANNEL: Final = 9999
"""The highest number: names have four digits."""
DEFAULT_RATE_HZ: Final = 10.0
MIN_RATE_HZ: Final = 0.01
MAX_RATE_HZ: Final = 100.0


class ChoiceError(ValueError):
    """What was chosen can't be monitored; the message says why."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Monitored channels. channels: their numbers. target_rate_hz: how many averages a second has at most."""

    channels: tuple[int, ...] = ()
    target_rate_hz: float = DEFAULT_RATE_HZ

    @property
    def names(self) -> tuple[str, ...]:
        """The channels' names, as in Scan frames."""
        return tuple(channel_name(number) for number in self.channels)

    @property
    def period_us(self) -> int:
        """The time of which one value is the average."""
        return round(1_000_000 / self.target_rate_hz)

    def changed(self, values: Mapping[str, Any]) -> Self:
        """Return this choice with the `channels` or the `target_rate` that a task has. Raises ChoiceError."""
        changed = self
        if "channels" in values:
            changed = replace(changed, channels=channel_numbers(values["channels"]))
        if "target_rate" in values:
            changed = replace(changed, target_rate_hz=target_rate_hz(values["target_rate"]))
        return changed


def channel_name(number: int) -> str:
    """Return the name of a channel in SMuRF's Scan frames."""
    return f"r{number:04}"


def channel_numbers(given: Any) -> tuple[int, ...]:
    """Return channels as given to a task, each once. Raises ChoiceError."""
    if not isinstance(given, list | tuple):
        raise ChoiceError(f"channels is a list of channel numbers, such as [12, 345], not {_shown(given)}")
    for number in given:
        if type(number) is not int or not 0 <= number <= MAX_CHANNEL:
            raise ChoiceError(f"{_shown(number)} is not a channel number from 0 to {MAX_CHANNEL}")
    numbers = tuple(dict.fromkeys(given))
    if len(numbers) > MAX_CHANNELS:
        raise ChoiceError(f"{len(numbers)} channels; at most {MAX_CHANNELS} can be monitored at once")
    return numbers


def target_rate_hz(given: Any) -> float:
    """Return a rate as given to a task or an option. Raises ChoiceError."""
    try:
        rate_hz = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        rate_hz = math.nan
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise ChoiceError(f"{_shown(given)} is not a rate in Hz from {MIN_RATE_HZ:g} to {MAX_RATE_HZ:g}")
    return rate_hz


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 40 else f"{text[:39]}…"
