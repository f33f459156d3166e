"""Quick look beside a real stream: its numbers, on its page and as metrics; and what happens when parts of it die.

The frames are made by so3g, as SMuRF's streamer makes them, and decoded by so3g.
"""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from testbed.child_process import free_port
from testbed.smurf.realistic import SAMPLES_HZ
from testbed.smurf.simulator import Simulator
from tests.sotodlib.analysis import STREAM_ID
from tests.support.processes import SECONDS, Program, Recorder, eventually, get

CHANNELS = 64
NOISE = 1000 / math.sqrt(3) * math.pi / 2**15 / math.sqrt(SAMPLES_HZ / 2)
"""White noise level of values that are evenly distributed from -1000 to 1000 counts, in rad/√Hz."""


class QuickLook:
    """A running `archiver quicklook` of the recorder's stream."""

    def __init__(self, recorder: Recorder, python: Path) -> None:
        self.port = free_port()
        self._stream = recorder.stream
        flags = ["--python", str(python), "--stream", recorder.stream, "--every", "0.5"]
        self.program: Program = recorder.start("archiver", "quicklook", "--http", str(self.port), *flags)
        self.program.await_line("looks are at")

    def answer(self) -> Any:
        """Return the JSON about the stream; None while it isn't known."""
        status, text = get(self.port, f"/v1/{self._stream}.json")
        return json.loads(text) if status == 200 else None

    def await_look(self, newer_than_ms: int = 0) -> Any:
        """Return the first look that is newer."""
        found: list[Any] = []

        def is_there() -> bool:
            answer = self.answer()
            if answer and answer["look"] and answer["look"]["end_ms"] > newer_than_ms:
                found.append(answer)
            return bool(found)

        eventually(is_there, "there is a newer look", seconds=4 * SECONDS)
        return found[0]

    def metric(self, name: str) -> str:
        """Return the value of a metric of the stream, or of one without a stream."""
        lines = get(self.port, "/metrics")[1].splitlines()
        [value] = [line.split()[-1] for line in lines if line.split("{")[0].split(" ")[0] == f"g3_quicklook_{name}"]
        return value

    def kill_decoder(self) -> None:
        """Kill the decoder's process."""
        [decoder] = psutil.Process(self.program.pid).children()
        os.kill(decoder.pid, signal.SIGKILL)


def test_a_look_at_a_real_stream_and_what_dies_of_it_comes_back_or_is_said(
    recorder: Recorder, so3g_python: Path
) -> None:
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        recorder.ingest(simulator.port)
        look = QuickLook(recorder, so3g_python)
        web_port = free_port()
        where = f"http://127.0.0.1:{look.port}"
        whose = ("--stream", recorder.stream, "--group", f"{recorder.stream}.archive")
        web = recorder.start("archiver", "web", "--http", str(web_port), "--quicklook", where, *whose)
        web.await_line("the page is at")
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 20 --rate 10")

        answer = look.await_look()
        found = answer["look"]
        assert (found["channels"], found["live_channels"], found["missing_samples"]) == (CHANNELS, CHANNELS, 0)
        assert found["sample_rate_hz"] == pytest.approx(SAMPLES_HZ, rel=1e-3)
        assert found["undecodable_frames"] == found["left_out_frames"] == 0
        simulator.command("frames 30 --rate 20")
        found = look.await_look(found["end_ms"])["look"]
        assert found["noise"]["median"] == pytest.approx(NOISE, rel=0.1)
        assert (look.metric("live_channels"), look.metric("missing_samples")) == ("64.0", "0.0")
        # Of a later look, perhaps.
        assert float(look.metric("noise_median_rad_per_sqrt_hz")) == pytest.approx(NOISE, rel=0.1)
        assert get(look.port, "/healthz")[0] == 200
        status, page = get(web_port, f"/quicklook/{recorder.stream}")
        assert status == 200
        for shown in (f"{CHANNELS} of {CHANNELS}", "200.0 Hz", "Median spectrum of the live channels", "r0005"):
            assert shown in page
        assert f'href="/quicklook/{recorder.stream}"' in get(web_port, "/")[1]

        look.kill_decoder()
        simulator.command("frames 10 --rate 20")
        look.program.await_line("the decoder: it has ended by signal 9")
        # Of a look from then on: there may have been one between the last answer and the kill.
        answer = look.await_look(look.answer()["look"]["end_ms"])
        assert answer["decoder"]["restarts"] == 1
        assert answer["decoder"]["problem"] is answer["error"] is None
        assert look.metric("decoder_restarts_total") == "1.0"

    assert look.program.stop() == 0
    status, page = get(web_port, f"/quicklook/{recorder.stream}")
    assert status == 200
    assert "Not live since" in page
    assert "nothing listens there" in page
    assert f"{CHANNELS} of {CHANNELS}" in page  # the last answer
    assert json.loads(get(web_port, f"/quicklook/{recorder.stream}.json")[1])["error"]
    assert get(web_port, "/healthz")[0] == 200
    assert recorder.stream in get(web_port, "/")[1]


def test_without_so3g_it_says_what_to_do(recorder: Recorder) -> None:
    done = recorder.start("archiver", "quicklook", "--python", "/nowhere/python")
    assert done.exit_code() == 2
    assert "/nowhere/python isn't found" in done.log
