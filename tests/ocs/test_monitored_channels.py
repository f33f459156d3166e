"""Monitored channels of the recorder's agent: chosen by tasks, published on a feed, and apart from the recording.

The decoder is the test's own, which takes the place of a Python with so3g; tests/sotodlib has one with so3g.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from testbed.smurf.simulator import Simulator
from tests.ocs.agents import Feeds, Observatory, data, ocs
from tests.support.processes import Program, eventually

# Each frame is a bin of two samples, which have the number of its process.
DECODER = f"""\
#!{sys.executable}
import os, sys
sys.path[:0] = [{str(Path(__file__).parents[2])!r}]
from archiver.quicklook.so3g_decoder.wire import read_message, write_message
requests, answers, number = sys.stdin.buffer, sys.stdout.buffer, 17_900_000_000
write_message(answers, {{"fake": "1"}})
while (request := read_message(requests)) is not None:
    fields, frames = request
    names = [name for name in fields["channels"] if name != "r0777"]
    found = []
    for _ in frames:
        number += 1
        sums = [[2.0 * os.getpid()] for _ in names]
        found.append({{"names": names, "bins": [number], "counts": [2], "offsets_us": [100_000], "sums": sums}})
    write_message(answers, {{"frames": found}})
"""


def processes(agent: Program, part: str) -> list[psutil.Process]:
    """Return the agent's processes, and theirs, with this in their command lines."""
    found = []
    for process in psutil.Process(agent.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            found += [process] if part in " ".join(process.cmdline()) else []
    return found


def decoders(agent: Program) -> list[psutil.Process]:
    """Return the processes that decode."""
    return processes(agent, "so3g_decoder")


def monitors(agent: Program) -> list[psutil.Process]:
    """Return the processes that read monitored channels from Kafka."""
    return processes(agent, "g3_agents.monitored.process")


def monitored(client: Any) -> Any:
    """Return what session.data says."""
    return data(client.record)["monitored"]


def published(feeds: Feeds) -> set[int]:
    """Return the decoders whose averages were published."""
    heard = [message["r0012"]["data"]["r0012"] for name, message in feeds.heard if name == "detectors"]
    return {int(value) for values in heard for value in values}


def while_sending(simulator: Simulator, condition: Callable[[], bool], what: str) -> None:
    """Send frames until that is so."""
    eventually(lambda: bool(simulator.command("frames 1")) and condition(), what)


def done(reply: Any) -> tuple[bool, str]:
    """Return whether a task has succeeded, and what it said last."""
    assert reply.status == ocs.OK
    return reply.session["success"], reply.session["messages"][-2][1]


def test_channels_are_chosen_published_and_never_hold_up_the_recording(observatory: Observatory) -> None:
    python = observatory.directory / "python"
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        agent = observatory.recorder(simulator.port, ["--so3g-python", str(python)], ["--target-rate", 10])
        client = observatory.client("recorder")
        simulator.command("wait")
        simulator.command("start")
        eventually(lambda: monitored(client)["target_rate"] == 10.0, "it records")
        assert monitors(agent) == []

        reply = client.set_monitored_channels(channels=["r0012"])
        assert done(reply) == (False, "'r0012' is not a channel number from 0 to 9999")
        success, said = done(client.set_target_rate(target_rate=1000))
        assert (success, said) == (False, "1000 is not a rate in Hz from 0.01 to 100")
        success, said = done(client.set_monitored_channels(channels=[12, 777]))
        assert not success
        assert f"--so3g-python: {python} isn't found" in said
        eventually(lambda: "isn't found" in str(monitored(client)["problem"]), "session.data says so, too")
        simulator.command("frames 5")

        python.write_text(DECODER)
        python.chmod(0o755)
        with observatory.listening("recorder") as feeds:
            while_sending(simulator, lambda: len(published(feeds)) == 1, "averages are published")
            message = feeds.await_message("detectors")["r0012"]
            assert message["block_name"] == "r0012"
            assert len(message["data"]["r0012"]) == len(message["timestamps"])
            assert {round(100 * at) % 10 for at in message["timestamps"]} == {5}  # the middle of its time
            shown = monitored(client)
            assert (shown["channels"], shown["unknown"], shown["problem"]) == ([12, 777], ["r0777"], None)

            [decoder] = decoders(agent)
            assert published(feeds) == {decoder.pid}
            os.kill(decoder.pid, signal.SIGKILL)
            while_sending(simulator, lambda: "signal 9" in str(monitored(client)["problem"]), "its reason is shown")
            while_sending(simulator, lambda: len(published(feeds)) == 2, "another decoder's are published")
        assert done(client.set_monitored_channels(channels=[]))[0]
        eventually(lambda: monitors(agent) + decoders(agent) == [], "nothing runs any more")
        last = simulator.command("frames 1")["last"]
        simulator.command("end")
        eventually(lambda: data(client.record)["finished"] == 1, "END has closed its file")
        shown = data(client.record)
        assert (shown["losses"], shown["problems"], shown["spool"]["stalls"]) == (0, [], 0)
        assert agent.stop() == 0
    assert len(observatory.recorded()) == last + 2  # and the Observation at the end
