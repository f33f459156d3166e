"""A realistic SMuRF stream, with SuperTimestreams made by so3g, whose recording sotodlib can read.

so3g makes the frames in a separate process (testbed/smurf/so3g_frames.py). A real G3NetworkSender in this process
sends them.
"""

import json
import struct
import subprocess
import time
from pathlib import Path
from typing import Any

from spt3g import core

from testbed.child_process import start_child_process
from testbed.smurf.streamer import Streamer
from testbed.sotodlib_venv import SOTODLIB

SAMPLES_HZ = 200
"""Sample rate of each channel, as SMuRF streams it at Simons Observatory."""
_ROOT = "AMCc.SmurfProcessor"
_TUNE = "AMCc.FpgaTopLevel.AppTop.AppCore.SysgenCryo.tuneFilePath"


def status_of(session: int, channels: int, tag: str, tune: str) -> dict[str, Any]:
    """Return what a SMuRF that streams a session says in its status, beyond what every one says."""
    return {
        f"{_ROOT}.ChannelMapper.Mask": str(list(range(channels))),
        f"{_ROOT}.ChannelMapper.NumChannels": channels,
        f"{_ROOT}.Downsampler.DownsamplerMode": "External",
        f"{_ROOT}.SOStream.open_g3stream": 1,
        f"{_ROOT}.SOStream.pysmurf_action": "stream_g3_on",
        f"{_ROOT}.SOStream.pysmurf_action_timestamp": session,
        f"{_ROOT}.SOStream.stream_tag": tag,
        _TUNE: tune,
    }


class RealisticStreamer(Streamer):
    """Sender of a realistic stream.

    tag: the `stream_tag` by which sotodlib recognizes observations. Raises VenvError.
    A Scan frame has the samples since the previous one, at SAMPLES_HZ, so a session's samples have no gap.
    """

    def __init__(self, host: str, port: int, stream_id: str, *, channels: int, tag: str) -> None:
        super().__init__(host, port, stream_id)
        self._channels = channels
        self._tag = tag
        self._tune = f"/data/smurf_data/tune/{int(time.time())}_tune.npy"
        self._samples = 0
        self._sent_samples = 0
        self._begin_ns = 0
        self._frames = start_child_process(
            [str(SOTODLIB.python()), str(Path(__file__).with_name("so3g_frames.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def observation(self, placement: str) -> None:
        """Send an Observation frame; the one at the end is preceded by the changes of the status at the end."""
        if placement == "end":
            self.wiring(dump=False, status=self._status_of_end())
        self._send("observation", placement=placement)

    def wiring(self, *, dump: bool = True, status: dict[str, Any] | None = None) -> None:
        """Send a Wiring frame: the whole status, or only what has changed."""
        changed = {"AMCc.FpgaTopLevel.AmcCarrierCore.AxiSysMonUltraScale.Temperature": 74.5}
        whole = status_of(self._begun_session(), self._channels, self._tag, self._tune)
        self._send("wiring", dump=dump, status=whole if dump else status or changed)

    def scans(self, count: int, rate: float, size: int) -> None:
        """Send Scan frames, `rate` per second (0: as fast as possible). Their samples determine their size."""
        del size
        begun = time.monotonic()
        for number in range(count):
            if rate:
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
            session = self._session_now()
            now = (time.time_ns() - self._begin_ns) * SAMPLES_HZ // 1_000_000_000
            first, stop = self._samples, max(now, self._samples + 1)
            self._samples = stop
            self._sent_samples += stop - first
            self._send(
                "scan",
                **{"first": first, "stop": stop, "rate": SAMPLES_HZ, "channels": self._channels},
                begin_ns=session * 1_000_000_000,
            )

    def take_sent(self) -> dict[str, int | None]:
        """Return the same, and the number of samples per channel in the Scan frames."""
        sent, self._sent_samples = super().take_sent() | {"samples": self._sent_samples}, 0
        return sent

    def _session_now(self) -> int:
        session = self._begun_session()
        if self._begin_ns != session * 1_000_000_000:
            self._begin_ns, self._samples = session * 1_000_000_000, 0
        return session

    def _status_of_end(self) -> dict[str, Any]:
        return {
            f"{_ROOT}.SOStream.open_g3stream": 0,
            f"{_ROOT}.SOStream.pysmurf_action": "",
            f"{_ROOT}.SOStream.pysmurf_action_timestamp": 0,
            f"{_ROOT}.SOStream.stream_tag": "",
        }

    def _send(self, name: str, **values: Any) -> None:
        """Request a frame from the so3g process and send it."""
        session, num = self._next_num()
        request = {"frame": name, "session": session, "num": num, "time_ns": time.time_ns(), **values}
        assert self._frames.stdin is not None
        assert self._frames.stdout is not None
        try:
            self._frames.stdin.write(json.dumps({**request, "stream_id": self.stream_id}).encode() + b"\n")
            self._frames.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError("the process that makes the frames has died; see its messages") from None
        header = self._frames.stdout.read(4)
        if len(header) < 4:
            raise RuntimeError("the process that makes the frames has died; see its messages")
        frame = core.G3Frame()
        frame._cereal_loads(self._frames.stdout.read(*struct.unpack(">I", header)))
        self._process(frame)
