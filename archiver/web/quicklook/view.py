"""What the page of a quick look shows: notes, numbers, figures; and its JSON. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

from archiver.core.formatting import count_noun, format_iso
from archiver.quicklook.answers import Answer, StreamLook
from archiver.quicklook.look import MAX_SHOWN, Channel
from archiver.web.api import VERSION
from archiver.web.quicklook.client import QuickLook
from archiver.web.quicklook.figures import (
    Figure,
    Path,
    area,
    line,
    linear_scale,
    linear_ticks,
    log_scale,
    log_ticks,
    log_unit_of,
    unit_of,
    with_unit,
    x_ticks,
    y_ticks,
)
from archiver.web.records.query import BadQueryError
from archiver.web.records.views import Fact
from archiver.web.text import Moment, moment, short_duration

NOISE_UNIT: Final = "rad/√Hz"
_MAX_NAME: Final = 64
_TIME_TICKS: Final = 4
_OLD_MS: Final = 60_000
"""Data are old after this, and after three rounds of looks."""
_DESCRIBED_HZ: Final = (1.0, 10.0, 50.0)
"""The median spectrum is described in words at these frequencies."""


@dataclass(frozen=True, slots=True)
class ChannelView:
    """A channel."""

    name: str
    text: str
    is_live: bool
    series: Figure | None
    spectrum: Figure | None


@dataclass(frozen=True, slots=True)
class QuickLookView:
    """The page of a stream's latest seconds."""

    stream: str
    notes: tuple[str, ...]
    """What is wrong, in sentences."""
    sums: tuple[tuple[str, str, bool], ...]
    """A number, what it counts, and whether it needs attention."""
    facts: tuple[Fact, ...]
    spectrum: Figure | None
    channels: tuple[ChannelView, ...]
    wanted: str
    """The channels that were asked for."""
    json_href: str


def checked_channels(text: str) -> tuple[str, ...]:
    """Return the channels that a URL asks for: names separated by commas. Raises BadQueryError."""
    names = tuple(dict.fromkeys(name for name in text.replace(" ", ",").split(",") if name))
    if len(names) > MAX_SHOWN:
        raise BadQueryError(f"channels: at most {MAX_SHOWN} are shown at once")
    if any(len(name) > _MAX_NAME for name in names):
        raise BadQueryError(f"channels: a name has at most {_MAX_NAME} characters")
    return names


def quicklook_url(stream: str, channels: Sequence[str] = (), suffix: str = "") -> str:
    """Return the URL of a quick look."""
    return f"/quicklook/{quote(stream)}{suffix}" + (
        f"?{urlencode({'channels': ','.join(channels)})}" if channels else ""
    )


def quicklook_json(found: QuickLook, stream: str) -> dict[str, Any]:
    """Return a quick look as JSON, with times in ISO 8601."""
    return {
        "v": VERSION,
        "url": quicklook_url(stream),
        "stream": stream,
        "error": found.error,
        "error_since": format_iso(found.error_since_ms),
        "answer": _with_iso_times(msgspec.to_builtins(found.answer)),
    }


def _with_iso_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name.removesuffix("_ms"): format_iso(it) if name.endswith("_ms") else _with_iso_times(it)
            for name, it in value.items()
        }
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_with_iso_times(it) for it in value]
    return value


def quicklook_view(found: QuickLook, stream: str, channels: Sequence[str], now_ms: int) -> QuickLookView:
    """Return what the page shows. channels: those that were asked for. now_ms: since the epoch."""
    look = found.answer.look if found.answer else None
    return QuickLookView(
        stream,
        tuple(_notes(found, now_ms)),
        _sums(look) if look else (),
        tuple(_facts(look, now_ms)) if look else (),
        _median_spectrum(look) if look else None,
        tuple(_channel(it, look) for it in look.shown) if look else (),
        ", ".join(channels),
        quicklook_url(stream, channels, ".json"),
    )


def _notes(found: QuickLook, now_ms: int) -> Iterator[str]:
    if found.error:
        since = _shown(moment(found.error_since_ms, now_ms))
        rest = "; what is shown was so before." if found.answer else "."
        yield f"Not live since {since}: {found.error}{rest} Recording doesn't depend on it."
    if not (answer := found.answer):
        return
    if answer.decoder.problem and not found.error:
        since = _shown(moment(answer.decoder.since_ms, now_ms))
        yield f"Since {since} the decoder doesn't work, and is started again by itself: {answer.decoder.problem}."
    elif answer.error and not found.error:
        since = _shown(moment(answer.error_since_ms, now_ms))
        yield f"There is no {'newer ' if answer.look else ''}look since {since}: {answer.error}."
    if look := answer.look:
        yield from _notes_of_look(answer, look, now_ms)
    elif not answer.error:
        wait = f"it is looked at every {answer.every_s:g} s, if there is time"
        nothing = f"the latest {answer.seconds:g} s of its topic have no Scan frame"
        yield f"There is no look yet: {nothing if answer.looked_ms else wait}."


def _notes_of_look(answer: Answer, look: StreamLook, now_ms: int) -> Iterator[str]:
    age_ms = now_ms - look.received_ms
    if age_ms > max(_OLD_MS, 3000 * answer.every_s):
        received = moment(look.received_ms, now_ms)
        yield f"Old: the data were received at {_shown(received)}; since then no newer ones were looked at."
    if look.undecodable_frames:
        yield f"{count_noun(look.undecodable_frames, 'frame')} couldn't be decoded: {look.undecodable_why}."
    if look.left_out_frames:
        yield f"Only the newest frames were looked at: {count_noun(look.left_out_frames, 'record')} were too much."
    if look.unknown_channels:
        yield f"The stream has no such channel: {', '.join(look.unknown_channels)}."


def _shown(found: Moment | None) -> str:
    return f"{found.text} UTC ({found.ago} ago)" if found else "the start"


def _sums(look: StreamLook) -> tuple[tuple[str, str, bool], ...]:
    found = [(f"{look.live_channels:,} of {look.channels:,}", "channels live", look.live_channels == 0)]
    if look.noise:
        found.append((with_unit(look.noise.median, NOISE_UNIT), "white noise, median", False))
    missing = "unknown" if look.missing_samples is None else f"{look.missing_samples:,}"
    found.append((missing, "samples missing", bool(look.missing_samples)))
    if look.sample_rate_hz is not None:
        found.append((f"{look.sample_rate_hz:.1f} Hz", "sample rate", False))
    return tuple(found)


def _facts(look: StreamLook, now_ms: int) -> Iterator[Fact]:
    received = moment(look.received_ms, now_ms)
    assert received is not None
    yield Fact("Received", f"{received.text}, {received.ago} ago", iso=received.iso)
    length_s = (look.end_ms - look.begin_ms) / 1000
    yield Fact("Looked at", f"{look.samples:,} samples in {length_s:.1f} s, {count_noun(look.frames, 'frame')}")
    if look.session is not None:
        yield Fact("Session", str(look.session))  # without a link: none of its files may be finished yet
    if look.noise:
        lower, upper = (with_unit(it, NOISE_UNIT) for it in (look.noise.lower_quartile, look.noise.upper_quartile))
        low_hz, high_hz = look.noise.band_hz
        yield Fact(
            "White noise", f"half of the live channels from {lower} to {upper}, at {low_hz:g} to {high_hz:g} Hz"
        )
    if look.missing_samples is None:
        yield Fact("Gaps", "unknown: the frames have no FrameCounter")
    for gap in reversed(look.gaps):
        at = moment(gap.time_ms, now_ms)
        assert at is not None
        missing = (
            "FrameCounter began again" if gap.missing is None else f"{count_noun(gap.missing, 'sample')} missing"
        )
        yield Fact("Gap", f"{missing} before {at.text}", iso=at.iso)
    if look.all_gaps > len(look.gaps):
        yield Fact("Gaps", f"{look.all_gaps:,} in all")


def _median_spectrum(look: StreamLook) -> Figure | None:
    found = look.spectrum
    x = log_scale(found.frequencies_hz, tight=True)
    y = log_scale([*found.lower_quartile, *found.upper_quartile, *found.median])
    if x is None or y is None or len(found.frequencies_hz) < 2:
        return None
    size, prefix = log_unit_of(found.median)
    values = [
        f"{with_unit(value, NOISE_UNIT)} at {at:g} Hz"
        for at in _DESCRIBED_HZ
        if x.low <= at <= x.high and (value := _nearest(found.frequencies_hz, found.median, at)) is not None
    ]
    return Figure(
        f"Spectrum of {look.live_channels:,} live channels",
        f"Median spectrum of the live channels: {', '.join(values)}",
        "frequency, Hz",
        f"{prefix}{NOISE_UNIT}",
        x_ticks(x, log_ticks(x)),
        y_ticks(y, log_ticks(y, size)),
        (
            Path("quartiles", area(found.frequencies_hz, found.lower_quartile, found.upper_quartile, x, y)),
            Path("median", line(zip(found.frequencies_hz, found.median, strict=True), x, y)),
        ),
    )


def _nearest(xs: Sequence[float], ys: Sequence[float | None], at: float) -> float | None:
    return ys[min(range(len(xs)), key=lambda place: abs(xs[place] - at))]


def _channel(channel: Channel, look: StreamLook) -> ChannelView:
    text = "not live: constant, or not finite"
    if channel.is_live:
        text = f"white noise {with_unit(channel.noise, NOISE_UNIT)}" if channel.noise is not None else "live"
    return ChannelView(channel.name, text, channel.is_live, _series(channel, look), _spectrum(channel, look))


def _series(channel: Channel, look: StreamLook) -> Figure | None:
    x = linear_scale([*look.bin_times_s, 0.0], tight=True)
    y = linear_scale([*channel.minima, *channel.maxima])
    if x is None or y is None or len(look.bin_times_s) < 2:
        return None
    low = min((it for it in channel.minima if it is not None), default=None)
    high = max((it for it in channel.maxima if it is not None), default=None)
    if low is None or high is None:  # beyond 65,504 rad, the largest 16-bit float
        return None
    size, prefix = unit_of([low, high])
    gaps = [(gap.time_ms - look.end_ms) / 1000 for gap in look.gaps]
    seconds = short_duration(look.end_ms - look.begin_ms)
    return Figure(
        "Signal",
        f"{channel.name}, the latest {seconds}: from {with_unit(low, 'rad')} to {with_unit(high, 'rad')} "
        "about its median",
        "time, s",
        f"{prefix}rad",
        x_ticks(x, linear_ticks(x, least=_TIME_TICKS)),
        y_ticks(y, linear_ticks(y, size)),
        (
            Path("envelope", area(look.bin_times_s, channel.minima, channel.maxima, x, y)),
            Path("gap", "".join(f"M{x.at(at)} 0V100" for at in gaps if x.low < at < x.high)),
        ),
    )


def _spectrum(channel: Channel, look: StreamLook) -> Figure | None:
    if not channel.spectrum:
        return None
    median = look.spectrum
    x = log_scale(look.bin_frequencies_hz, tight=True)
    y = log_scale([*channel.spectrum, *median.median])
    if x is None or y is None or len(look.bin_frequencies_hz) < 2:
        return None
    size, prefix = log_unit_of(channel.spectrum)
    noise = f": white noise {with_unit(channel.noise, NOISE_UNIT)}" if channel.noise is not None else ""
    return Figure(
        "Spectrum",
        f"Spectrum of {channel.name}{noise}; beside it the median of the live channels",
        "frequency, Hz",
        f"{prefix}{NOISE_UNIT}",
        x_ticks(x, log_ticks(x)),
        y_ticks(y, log_ticks(y, size)),
        (
            Path("reference", line(zip(median.frequencies_hz, median.median, strict=True), x, y)),
            Path("signal", line(zip(look.bin_frequencies_hz, channel.spectrum, strict=True), x, y)),
        ),
    )
