"""The JSON of a stream's look, in version 1; docs/operate/quicklook.md documents it. Pure."""

from collections.abc import Sequence
from typing import Final

import msgspec

from archiver.quicklook.look import MAX_SHOWN, Channel, Gap, Look, channel, chosen_channels
from archiver.quicklook.state import DecoderStatus, State, StreamState

VERSION: Final = 1


class Decoder(msgspec.Struct, frozen=True):
    """The decoder's process."""

    running: bool
    restarts: int
    problem: str | None
    since_ms: int | None
    """Since when there is a problem."""
    versions: str


class Noise(msgspec.Struct, frozen=True):
    """The white noise levels of the live channels, in rad/√Hz."""

    band_hz: tuple[float, float]
    lower_quartile: float
    median: float
    upper_quartile: float


class Spectrum(msgspec.Struct, frozen=True):
    """The spectra of the live channels, in rad/√Hz at each frequency."""

    frequencies_hz: list[float]
    lower_quartile: list[float | None]
    median: list[float | None]
    upper_quartile: list[float | None]


class StreamLook(msgspec.Struct, frozen=True):
    """The numbers of the latest seconds. Times are in ms since the epoch."""

    received_ms: int
    """When the last record was received by its ingest, by its host's clock."""
    begin_ms: int
    """Of the first sample, by the clock of the readout."""
    end_ms: int
    """Of the last sample."""
    session: int | None
    samples: int
    sample_rate_hz: float | None
    frames: int
    other_frames: int
    undecodable_frames: int
    undecodable_why: str | None
    left_out_frames: int
    channels: int
    live_channels: int
    missing_samples: int | None
    gaps: list[Gap]
    all_gaps: int
    noise: Noise | None
    spectrum: Spectrum
    white_noise: dict[str, float | None]
    """The level of each channel; null if it isn't live."""
    bin_times_s: list[float]
    bin_frequencies_hz: list[float]
    shown: list[Channel]
    unknown_channels: list[str]
    """Those asked for that the stream doesn't have."""


class Answer(msgspec.Struct, frozen=True):
    """The answer about a stream. Times are in ms since the epoch."""

    v: int
    stream: str
    time_ms: int
    started_ms: int
    """When the quick-look process was started."""
    seconds: float
    every_s: float
    decoder: Decoder
    looked_ms: int | None
    """When the stream's topic was last read."""
    error: str | None
    """Why there is no newer look."""
    error_since_ms: int | None
    look: StreamLook | None
    """The last one that succeeded."""


def answer(state: State, stream: str, channels: Sequence[str], now_ms: int) -> Answer | None:
    """Return the answer about a stream; None if it isn't looked at. channels: to show; if none, some live ones."""
    if stream not in state.streams and state.is_listed:
        return None
    found = state.streams.get(stream, StreamState())
    kafka = (state.kafka_error, state.kafka_since_ms)
    error, since_ms = kafka if state.kafka_error else (found.error, found.error_since_ms)
    return Answer(
        VERSION,
        stream,
        now_ms,
        state.started_ms,
        state.seconds,
        state.every_s,
        _decoder(state.decoder),
        found.looked_ms,
        error,
        since_ms,
        _stream_look(found, found.look, channels) if found.look else None,
    )


def _decoder(status: DecoderStatus) -> Decoder:
    return Decoder(status.is_running, status.restarts, status.problem, status.since_ms, status.versions)


def _stream_look(state: StreamState, look: Look, channels: Sequence[str]) -> StreamLook:
    numbers, quartiles = look.numbers, look.noise_quartiles
    shown, unknown = chosen_channels(numbers, channels[:MAX_SHOWN])
    return StreamLook(
        received_ms=state.received_ms or 0,
        begin_ms=numbers.begin_ms,
        end_ms=numbers.end_ms,
        session=numbers.session,
        samples=numbers.samples,
        sample_rate_hz=numbers.sample_rate_hz,
        frames=numbers.frames,
        other_frames=numbers.other_frames,
        undecodable_frames=numbers.undecodable,
        undecodable_why=numbers.undecodable_why,
        left_out_frames=look.left_out,
        channels=len(numbers.channels),
        live_channels=look.live_channels,
        missing_samples=numbers.missing,
        gaps=numbers.gaps,
        all_gaps=numbers.all_gaps,
        noise=Noise(numbers.band_hz, *quartiles) if numbers.band_hz and quartiles else None,
        spectrum=Spectrum(numbers.frequencies_hz, numbers.lower, numbers.median, numbers.upper),
        white_noise=dict(zip(numbers.channels, numbers.noise, strict=True)),
        bin_times_s=numbers.bin_times_s,
        bin_frequencies_hz=numbers.bin_frequencies_hz,
        shown=[channel(look, number) for number in shown],
        unknown_channels=unknown,
    )
