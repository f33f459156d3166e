"""Nights as their records are in Kafka the morning after; a real archiver records them in seconds.

`night` is that of 2025-07-27, UTC. Both streams record two observations, a frame each 5 s: from 21:30 to 21:55, and
from 22:30 to 22:45. The first stream's sender drops three frames of the first, and its connection is lost for a
minute in the second; of the second stream seven frames of the second observation are lost on the way.

`observation` is the first three minutes of it, of one stream, with frames as SMuRF's streamer makes them.
"""

import json
import secrets
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # re-exported without saying so
from spt3g import core

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.producer_epoch import RANDOM_BITS, new_epoch
from g3stream.contract.topics import FRAMES_TOPIC_CONFIG, frames_topic
from g3stream.frame_format.layout import parse_header
from testbed.kafka.broker import Broker
from testbed.smurf import realistic
from testbed.smurf.realistic import SAMPLES_HZ, status_of
from tests.docs.site import PORT, Site
from tests.support.processes import SECONDS, admin_client, committed, eventually, flow, frame

_FIRST: Final = 1753651800
_SECOND: Final = 1753655400
"""The sessions: as SMuRF does it, they are named after the Unix second in which they begin."""
_EACH_MS: Final = 5000
_SMURF: Final = "ufm_uv22"
_CHANNELS: Final = 64


class _Stream:
    """A stream's records, with a clock of its own."""

    def __init__(self, servers: str, name: str) -> None:
        self._name = name
        self._producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
        self._now = _FIRST * 1000
        self._epoch, self._seq = new_epoch(None, self._now, secrets.randbits(RANDOM_BITS)), 0
        self._session = self._number = 0
        self.published = 0
        admin, topic = admin_client(servers), frames_topic(name)
        admin.create_topics([NewTopic(topic, 1, 1, config={**FRAMES_TOPIC_CONFIG, "retention.ms": "-1"})])[
            topic
        ].result(SECONDS)

    def connect(self, session: int) -> None:
        """Connect to the sender, which is in that session, and begin an acquisition."""
        self._now = max(self._now, session * 1000)
        if session != self._session:
            self._session, self._number = session, 0
        self._publish(Kind.CONNECTED)
        self._publish(Kind.START, flow(1))
        self._observation("start")
        self._frame(core.G3FrameType.Wiring, status="{}")

    def scans(self, minutes: float) -> None:
        """Receive data for so long."""
        for _ in range(round(minutes * 60_000 / _EACH_MS)):
            self._now += _EACH_MS
            self._frame(core.G3FrameType.Scan, data=core.G3VectorDouble([self._number / 7] * 500))

    def drop(self, frames: int) -> None:
        """Let the sender drop frames."""
        self._number += frames
        self._now += frames * 10

    def lose(self, frames: int) -> None:
        """Lose frames between the sender and Kafka."""
        self._number += frames
        self._seq += frames

    def disconnect(self) -> None:
        """Lose the connection, for a minute."""
        self._publish(Kind.LOST)
        self._now += 60_000

    def end(self) -> None:
        """End the observation."""
        self._observation("end")
        self._publish(Kind.END, flow(2))
        assert self._producer.flush(SECONDS) == 0

    def frames(self, session: int, all_bytes: Sequence[bytes]) -> None:
        """Receive these frames of a session, one a second, from START to END."""
        self._session = session
        self._publish(Kind.CONNECTED)
        self._publish(Kind.START, flow(1))
        for number, one in enumerate(all_bytes):
            self._publish(Kind.FRAME, one, number)
            self._now += 1000
        self._publish(Kind.END, flow(2))
        assert self._producer.flush(SECONDS) == 0

    def _observation(self, placement: str) -> None:
        self._frame(core.G3FrameType.Observation, stream_placement=placement)

    def _frame(self, kind: core.G3FrameType, **values: object) -> None:
        label = {"session_id": self._session, "frame_num": self._number, "sostream_id": self._name}
        self._publish(Kind.FRAME, frame(kind, **label, **values), self._number)
        self._number += 1

    def _publish(self, kind: Kind, value: bytes = b"", number: int | None = None) -> None:
        headers = RecordHeaders(
            kind,
            self._epoch,
            self._seq,
            type=parse_header(value, 0)[2] if value else None,
            session=self._session if number is not None else None,
            num=number,
        )
        encoded: list[tuple[str, str | bytes | None]] = [*headers.to_kafka()]
        topic = frames_topic(self._name)
        self._producer.produce(topic, value, headers=encoded, timestamp=self._now, partition=0)
        self._seq += 1
        self.published += 1


@contextmanager
def night(site: Site) -> Iterator[None]:
    """Have that night in Kafka, and recorded in /data; nothing runs but Kafka."""
    with Broker(site.root / "kafka", PORT):
        streams = {name: _Stream(site.servers, name) for name in ("crate1slot2", "crate1slot3")}
        first = streams["crate1slot2"]
        for stream in streams.values():
            stream.connect(_FIRST)
            stream.scans(12.5)
            if stream is first:
                stream.drop(3)
            stream.scans(12.5)
            stream.end()
            stream.connect(_SECOND)
            stream.scans(7)
            if stream is first:
                stream.disconnect()
                stream.connect(_SECOND)
            else:
                stream.lose(7)
            stream.scans(7)
            stream.end()
        _record(site, "archiver run --data-dir /data", streams)
        yield


@contextmanager
def observation(site: Site) -> Iterator[None]:
    """Have the three minutes in Kafka, and recorded in /data, in files of a minute; nothing runs but Kafka."""
    with Broker(site.root / "kafka", PORT):
        streams = {_SMURF: _Stream(site.servers, _SMURF)}
        if site.so3g:
            streams[_SMURF].frames(_FIRST, _made_by_so3g(site.so3g))
        _record(site, "archiver run --data-dir /data --time-per-file 60", streams)
        yield


def _record(site: Site, command: str, streams: Mapping[str, _Stream]) -> None:
    with site.shell(site.root) as shell:
        shell.start(command).await_ready("recording to", [])
        ends = [stream.published for stream in streams.values()]
        eventually(lambda: committed(site.servers, "archiver", *streams) == ends, "it is recorded", 4 * SECONDS)


def _made_by_so3g(python: Path) -> list[bytes]:
    """Return the frames of an observation of three minutes."""
    status = status_of(_FIRST, _CHANNELS, "obs,cmb", f"/data/smurf_data/tune/{_FIRST}_tune.npy")
    begin_ns = _FIRST * 1_000_000_000
    samples = {"rate": SAMPLES_HZ, "channels": _CHANNELS, "begin_ns": begin_ns}
    requests: list[dict[str, Any]] = [
        {"frame": "observation", "placement": "start"},
        {"frame": "wiring", "dump": True, "status": status},
        *({"frame": "scan", "first": n * SAMPLES_HZ, "stop": (n + 1) * SAMPLES_HZ, **samples} for n in range(180)),
        {"frame": "observation", "placement": "end"},
    ]
    label = {"stream_id": _SMURF, "session": _FIRST}
    lines = [
        json.dumps({**request, **label, "num": number, "time_ns": begin_ns + number * 1_000_000_000})
        for number, request in enumerate(requests)
    ]
    script = Path(realistic.__file__).with_name("so3g_frames.py")
    made = subprocess.run(
        [python, script], input="\n".join(lines).encode(), stdout=subprocess.PIPE, check=True
    ).stdout
    found, at = [], 0
    while at < len(made):
        [size] = struct.unpack_from(">I", made, at)
        found.append(made[at + 4 : at + 4 + size])
        at += 4 + size
    return found
