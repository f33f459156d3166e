"""Quick look's metrics and health."""

from collections.abc import Iterator
from typing import Final

from archiver.quicklook.look import Look
from archiver.quicklook.state import State, age_s
from g3stream.service.metrics import MetricsSnapshot

PREFIX: Final = "g3_quicklook_"
_UNHEALTHY_AFTER_MS: Final = 60_000
"""A decoder that died once is running again by then."""


def metrics(state: State, now_ms: int) -> bytes:
    """Return all metrics in Prometheus's text format. now_ms: since the epoch."""
    shown = MetricsSnapshot(PREFIX)
    shown.gauge("decoder_up", "1 if the decoder's process has answered the last request.", state.decoder.is_running)
    text = "How often the decoder's process was started again, as it had died or didn't answer."
    shown.counter("decoder_restarts", text, state.decoder.restarts)
    for stream, found in sorted(state.streams.items()):
        view = shown.labelled(stream=stream)
        if (age := age_s(found, now_ms)) is not None:
            text = "Time since ingest received the last record that was looked at."
            view.gauge("age_seconds", text, age)
        view.gauge("failed", "1 if the last look at the stream has failed.", found.error is not None)
        if found.look:
            _look(view, found.look)
    return shown.render()


def _look(view: MetricsSnapshot, look: Look) -> None:
    numbers = look.numbers
    view.gauge("channels", "Channels in the latest seconds.", len(numbers.channels))
    text = "Channels that are finite and not constant in the latest seconds."
    view.gauge("live_channels", text, look.live_channels)
    if numbers.missing is not None:
        text = "Samples that are missing in the latest seconds, by FrameCounter."
        view.gauge("missing_samples", text, numbers.missing)
    text = "Frames of the latest seconds that couldn't be decoded."
    view.gauge("undecodable_frames", text, numbers.undecodable)
    if numbers.sample_rate_hz is not None:
        view.gauge("sample_rate_hertz", "Sample rate of the latest seconds.", numbers.sample_rate_hz)
    if quartiles := look.noise_quartiles:
        text = "White noise level, {} of the live channels."
        for name, what, value in zip(
            ("lower_quartile", "median", "upper_quartile"),
            ("lower quartile", "median", "upper quartile"),
            quartiles,
            strict=True,
        ):
            view.gauge(f"noise_{name}_rad_per_sqrt_hz", text.format(what), value)


def problems(state: State, now_ms: int) -> Iterator[str]:
    """Yield each problem that keeps quick look from its work, in words. now_ms: since the epoch."""
    if state.kafka_error:
        yield state.kafka_error
    decoder = state.decoder
    if decoder.problem and decoder.since_ms is not None and now_ms - decoder.since_ms > _UNHEALTHY_AFTER_MS:
        yield decoder.problem


def warnings(state: State) -> Iterator[str]:
    """Yield what needs attention although quick look works."""
    yield from (f"{stream}: {it.error}" for stream, it in sorted(state.streams.items()) if it.error)
