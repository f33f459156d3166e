"""Frames as SMuRF's streamer makes them, with so3g's G3SuperTimestream.

A script for the Python of testbed/sotodlib_venv.py, which no module imports. Each line on stdin is a request in JSON;
the answer on stdout is a frame: its length in 4 bytes, big-endian, and its bytes. See testbed/smurf/realistic.py.
"""

import json
import struct
import sys
from importlib.resources import files
from typing import Any

import numpy as np
import so3g
import yaml
from spt3g import core

_SOSTREAM_VERSION = 2
_NS_PER_TICK = 10
"""The unit of G3 times is 10 ns."""
_COUNTER0_HZ = 480_000
"""Frequency of SMuRF's timing counter, which restarts each second."""
_EPICS_EPOCH_S = 5 * (4 * 365 + 1) * 86_400
"""The seconds in Counter2 count from 1990."""
_BIAS_LINES = 16
_PRIMARY = (
    *("UnixTime", "FluxRampIncrement", "FluxRampOffset", "Counter0", "Counter1", "Counter2"),
    *("AveragingResetBits", "FrameCounter", "TESRelaySetting"),
)


def observation(request: dict[str, Any]) -> Any:
    """Make an Observation frame; `placement`: start or end."""
    frame = _tagged(core.G3FrameType.Observation, request)
    frame["stream_placement"] = request["placement"]
    return frame


def wiring(request: dict[str, Any], sample: dict[str, Any]) -> Any:
    """Make a Wiring frame: the whole status (`dump`), which is `sample` updated by `status`; or `status` alone."""
    frame = _tagged(core.G3FrameType.Wiring, request)
    status = {**sample, **request["status"]} if request["dump"] else request["status"]
    frame["status"] = yaml.dump(status, Dumper=yaml.CSafeDumper)
    frame["dump"] = request["dump"]
    return frame


def scan(request: dict[str, Any]) -> Any:
    """Make a Scan frame with the session's samples `first` to before `stop`, `rate` per second, of `channels`."""
    indices = np.arange(request["first"], request["stop"], dtype=np.int64)
    times_ns = request["begin_ns"] + indices * 1_000_000_000 // request["rate"]
    seconds, rest_ns = np.divmod(times_ns, 1_000_000_000)
    times = core.G3VectorTime(times_ns // _NS_PER_TICK)
    rng = np.random.default_rng((request["session"], request["num"]))
    noise = rng.integers(-1000, 1000, (request["channels"], indices.size), np.int32)
    levels = np.arange(request["channels"], dtype=np.int32)[:, None] << 16
    primary = np.zeros((len(_PRIMARY), indices.size), np.int64)
    primary[_PRIMARY.index("UnixTime")] = times_ns
    primary[_PRIMARY.index("FrameCounter")] = indices
    primary[_PRIMARY.index("Counter0")] = rest_ns * _COUNTER0_HZ // 1_000_000_000
    primary[_PRIMARY.index("Counter2")] = ((seconds - _EPICS_EPOCH_S) << 32) | rest_ns

    frame = _tagged(core.G3FrameType.Scan, request)
    frame["data"] = so3g.G3SuperTimestream(_names("r{:04}", request["channels"]), times, levels + noise)
    frame["primary"] = so3g.G3SuperTimestream(list(_PRIMARY), times, primary)
    biases = np.zeros((_BIAS_LINES, indices.size), np.int32)
    frame["tes_biases"] = so3g.G3SuperTimestream(_names("bias{:02}", _BIAS_LINES), times, biases)
    frame["timing_paradigm"] = "High Precision"
    frame["num_samples"] = indices.size
    frame["slow_primary"] = core.G3MapInt({"CrateID": 1, "SlotNumber": 2, "Version": 1})
    return frame


def _tagged(kind: Any, request: dict[str, Any]) -> Any:
    frame = core.G3Frame(kind)
    frame["time"] = core.G3Time(request["time_ns"] // _NS_PER_TICK)
    frame["sostream_version"] = _SOSTREAM_VERSION
    frame["sostream_id"] = request["stream_id"]
    frame["session_id"] = request["session"]
    frame["frame_num"] = request["num"]
    return frame


def _names(pattern: str, count: int) -> list[str]:
    return [pattern.format(number) for number in range(count)]


def main() -> None:
    """Answer requests until stdin ends."""
    # The status of a real SMuRF, which is included in the SMuRF file emulator of Simons Observatory's agents.
    text = (files("socs") / "agents" / "smurf_file_emulator" / "status_sample.yaml").read_text()
    sample: dict[str, Any] = yaml.load(text, Loader=yaml.CSafeLoader)
    for line in sys.stdin:
        request = json.loads(line)
        match request["frame"]:
            case "observation":
                made = observation(request)
            case "wiring":
                made = wiring(request, sample)
            case _:
                made = scan(request)
        data: bytes = made.__getstate__()[1]
        sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
