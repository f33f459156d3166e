"""A quick-look process without Kafka and so3g: it answers for each stream with detector data that are known."""

from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from archiver.quicklook.answers import answer
from archiver.quicklook.look import Look
from archiver.quicklook.so3g_decoder.samples import Scan
from archiver.quicklook.state import DecoderStatus, State, StreamState
from g3stream.host.environment import now_ms
from g3stream.service.endpoint import ListenEndpoint
from g3stream.service.http_server import HttpServer
from tests.unit.archiver.quicklook.known import look_at

CHANNELS = 300
DEAD = 7
MISSING = 3
_RATE_HZ = 200
_SAMPLES = 2000


def quicklook_server() -> HttpServer:
    """Start a server that answers for every stream; a context manager."""
    began_ms = now_ms()
    look = _look(began_ms / 1000)

    def document(path: str, query: str) -> bytes | None:
        stream = path.removeprefix("/v1/").removesuffix(".json")
        channels = query.removeprefix("channels=").split("%2C") if query else []
        now = now_ms()
        found = StreamState(look, looked_ms=now, received_ms=now - 2000)
        state = State(10.0, 30.0, began_ms, {stream: found}, decoder=DecoderStatus(is_running=True))
        return msgspec.json.encode(answer(state, stream, channels, now))

    return HttpServer(ListenEndpoint("127.0.0.1", 0), bytes, tuple, document=document)


def _look(end_s: float) -> Look:
    """Return a look at channels with noise that rises to low frequencies, and a line of the mains."""
    counter = np.arange(_SAMPLES + MISSING, dtype=np.int64)
    counter = np.delete(counter, slice(1200, 1200 + MISSING))
    times_s = end_s + (counter - counter[-1]) / _RATE_HZ
    names = tuple(f"r{number:04}" for number in range(CHANNELS))
    return replace(look_at([Scan(round(end_s) - 500, names, _counts(counter / _RATE_HZ), times_s, counter)]))


def _counts(time_s: NDArray[np.float64]) -> NDArray[np.int32]:
    rng = np.random.default_rng(5)
    level = rng.lognormal(0, 0.2, (CHANNELS, 1))
    white = rng.normal(0, 2.0, (CHANNELS, time_s.size))
    drift = np.cumsum(rng.normal(0, 0.6, (CHANNELS, time_s.size)), axis=1)
    line = rng.exponential(0.5, (CHANNELS, 1)) * np.sin(2 * np.pi * 60 * time_s)
    counts = np.asarray(
        np.round(10 * level * (white + drift + line) + 1e5 * rng.normal(0, 1, (CHANNELS, 1))), np.int32
    )
    counts[:DEAD] = 0
    return counts
