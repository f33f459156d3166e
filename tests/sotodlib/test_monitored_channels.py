"""Monitored channels of a real stream: the averages on the feed are those of the samples that were sent.

The frames are made by so3g, as SMuRF's streamer makes them, and decoded by so3g.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from spt3g import core

from g3stream.frame_format.layout import FRAME_TYPES
from testbed.smurf.realistic import SAMPLES_HZ
from testbed.smurf.simulator import Simulator
from tests.sotodlib.analysis import STREAM_ID
from tests.support.processes import SECONDS, Recorder, eventually

if TYPE_CHECKING:
    from tests.ocs.agents import Observatory  # which needs the package ocs


CHANNELS = (5, 63)
RATE_HZ = 4


def known_averages(recorder: Recorder) -> dict[int, list[float]]:
    """Return the averages of CHANNELS in each quarter of a second since the epoch, as the simulator made them."""
    samples: dict[int, list[list[int]]] = defaultdict(list)
    made = 0
    for headers, _, value in recorder.records():
        if headers.type != FRAME_TYPES["Scan"]:
            continue
        frame = core.G3Frame()
        frame._cereal_loads(value)
        rng = np.random.default_rng((frame["session_id"], frame["frame_num"]))
        noise = rng.integers(-1000, 1000, (64, frame["num_samples"]), np.int32)
        for at in range(frame["num_samples"]):
            number = frame["session_id"] * RATE_HZ + made * RATE_HZ // SAMPLES_HZ
            samples[number].append([noise[it, at] + (it << 16) for it in CHANNELS])
            made += 1
    return {number: np.mean(values, axis=0).tolist() for number, values in samples.items()}


def test_averages_are_those_of_the_samples_that_were_sent(observatory: "Observatory", so3g_python: Path) -> None:
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        agent = observatory.recorder(simulator.port, ["--so3g-python", str(so3g_python)], ["--target-rate", RATE_HZ])
        client = observatory.client("recorder")
        simulator.command("wait")
        with observatory.listening("recorder") as feeds:
            simulator.command("start")
            reply = client.set_monitored_channels(channels=[*CHANNELS, 64])
            assert reply.session["success"], reply.session["messages"]

            def published(channel: int) -> dict[float, float]:
                blocks = [message[f"r{channel:04}"] for name, message in feeds.heard if f"r{channel:04}" in message]
                return {
                    at: value
                    for it in blocks
                    for at, value in zip(it["timestamps"], it["data"][f"r{channel:04}"], strict=True)
                }

            def are_enough() -> bool:
                simulator.command("frames 3 --rate 9")
                return len(published(CHANNELS[-1])) >= 10

            eventually(are_enough, "averages are published", seconds=4 * SECONDS)
        shown = client.record.status().session["data"]["monitored"]
        assert (shown["unknown"], shown["undecodable"], shown["problem"]) == (["r0064"], 0, None)
        simulator.command("end")
        assert agent.stop() == 0
    known = known_averages(observatory)
    for place, channel in enumerate(CHANNELS):
        found = {math.floor(at * RATE_HZ): (at, value) for at, value in published(channel).items()}
        assert {number: value for number, (_, value) in found.items()} == pytest.approx(
            {number: known[number][place] for number in found}
        )
        step_s = 1 / RATE_HZ - 1 / SAMPLES_HZ
        middles = [number / RATE_HZ + step_s / 2 for number in found]
        assert [at for at, _ in found.values()] == pytest.approx(middles, abs=1e-5, rel=0)
