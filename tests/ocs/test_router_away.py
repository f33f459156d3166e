"""Recording doesn't depend on crossbar, nor on the process for OCS."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from testbed.crossbar import Crossbar
from testbed.smurf.simulator import Simulator
from tests.ocs.agents import Observatory, data, ocs, process_of
from tests.support.processes import eventually

T = TypeVar("T")


@pytest.fixture
def router(crossbar_program: Path, tmp_path: Path) -> Iterator[Crossbar]:
    """One of the test's own, which isn't started yet."""
    assert crossbar_program
    crossbar = Crossbar(tmp_path / "crossbar")
    yield crossbar
    crossbar.kill()


def test_nothing_is_lost_while_the_router_is_away_and_it_can_be_controlled_again(observatory: Observatory) -> None:
    crossbar = observatory.crossbar
    observatory.create_topic()
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        sent = 0

        def frames() -> None:
            nonlocal sent
            sent = simulator.command("frames 20 --rate 40")["last"]

        def meanwhile(act: Callable[[], T]) -> T:
            """Do that while frames come: no gap is to end the acquisition, however slow this machine is."""
            with ThreadPoolExecutor(1) as pool:
                doing = pool.submit(act)
                frames()
                while not doing.done():
                    frames()
            return doing.result()

        def joined() -> Any:
            return meanwhile(lambda: observatory.client("recorder"))

        agent = observatory.recorder(simulator.port)
        agent.await_line("no OCS router answers")
        simulator.command("wait")
        simulator.command("start")
        frames()
        agent.await_line(": opened ")

        meanwhile(crossbar.start)
        client = joined()
        eventually(lambda: client.record.status().session.get("status") == "running", "it shows that it records")
        frames()
        assert client.record.status().session["status"] == "running"

        crossbar.kill()
        frames()
        agent.await_line("the process for OCS has ended")
        frames()
        meanwhile(crossbar.start)
        client = joined()
        frames()
        eventually(lambda: data(client.record).get("frames") == sent + 1, "what came meanwhile is counted")

        crossbar.stop()  # with a good-bye
        agent.await_line("the process for OCS has ended", count=2)
        meanwhile(crossbar.start)
        client = joined()

        # The process that OCS names: stopping it doesn't stop the recording.
        os.kill(process_of(client), signal.SIGTERM)
        agent.await_line("the process for OCS has ended", count=3)
        client = joined()
        eventually(lambda: client.record.status().session.get("status") == "running", "it goes on showing")
        eventually(lambda: data(client.record).get("frames") == sent + 1, "all of them are received")

        assert client.record.stop().status == ocs.OK
        assert client.record.wait(timeout=10).session["success"] is True
        assert len(agent.times_of("connected to")) == len(observatory.files()) == 1
        assert observatory.recorded() == list(range(sent + 1))
        assert agent.stop() == 0
        assert len(agent.times_of("connection closed")) == 1


def test_a_file_that_is_finished_while_the_router_is_away_is_told_of_later(observatory: Observatory) -> None:
    observatory.create_topic()
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        agent = observatory.recorder(simulator.port)
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 5")
        simulator.command("end")
        agent.await_line(": finished ")
        agent.send(signal.SIGSTOP)  # so that we listen before it joins
        observatory.crossbar.start()
        with observatory.listening("recorder") as feeds:
            agent.send(signal.SIGCONT)
            message = feeds.await_message("files")
            (file,) = observatory.files()
            assert message["path"] == str(file.relative_to(observatory.data()))
            assert message["bytes"] == file.stat().st_size
            assert message["frames"] == 8
        assert agent.stop() == 0
