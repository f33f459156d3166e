"""Looks and states that are known."""

import numpy as np
from numpy.typing import NDArray

from archiver.quicklook.look import Look, look_from
from archiver.quicklook.so3g_decoder.look import numbers
from archiver.quicklook.so3g_decoder.samples import Scan, join
from archiver.quicklook.state import State, StreamState

RATE_HZ = 200
BEGIN_S = 1_795_986_000.0
SIGMA_COUNTS = 30.0
STREAM = "crate1slot2"
NOW_MS = round(1000 * BEGIN_S) + 12_000
"""Two seconds after the last sample of `look_at`."""


def white(channels: int, samples: int) -> NDArray[np.int32]:
    """Return white noise about levels that are far apart."""
    rng = np.random.default_rng(7)
    levels = np.arange(channels)[:, None] * 65_536 - 400_000
    return np.asarray(np.round(rng.normal(0, SIGMA_COUNTS, (channels, samples)) + levels), np.int32)


def scans(
    counts: NDArray[np.number], counter: NDArray[np.int64] | None = None, *, frame: int = 50, session: int = 5
) -> list[Scan]:
    """Return frames with these samples, channels × samples. counter: FrameCounter of each."""
    counted = np.arange(counts.shape[1], dtype=np.int64) if counter is None else counter
    times_s = BEGIN_S + counted / RATE_HZ
    names = tuple(f"r{number:04}" for number in range(counts.shape[0]))
    parts = [slice(at, at + frame) for at in range(0, counts.shape[1], frame)]
    return [Scan(session, names, counts[:, part], times_s[part], counted[part]) for part in parts]


def look_at(frames: list[Scan], *, undecodable: int = 0, left_out: int = 0) -> Look:
    """Return the look that the decoder would answer, as it is checked."""
    samples = join(frames, 10.0)
    assert samples is not None
    fields, parts = numbers(samples)
    counted = {"undecodable": undecodable, "undecodable_why": "RuntimeError: bad" if undecodable else None}
    return look_from({**fields, **counted}, parts, left_out)


def state_with(look: Look | None = None, **values: object) -> State:
    """Return the state of one stream. values: of its StreamState."""
    received_ms = NOW_MS - 2000 if look else None
    stream = StreamState(**{"look": look, "looked_ms": NOW_MS - 1000, "received_ms": received_ms, **values})  # type: ignore[arg-type]  # any of them
    return State(10.0, 30.0, NOW_MS - 60_000, {STREAM: stream}, is_listed=True)


def two_gaps() -> list[Scan]:
    """Return frames of 8 channels, of which one is constant, with 1 and 7 samples missing."""
    counter = np.array([*range(700), *range(701, 1500), *range(1507, 2007)], np.int64)
    counts = white(8, 1999)
    counts[3] = 17
    return scans(counts, counter)
