"""A SmurfRecorder that gets a signal ends within 10 s, and nothing is lost."""

import signal
from pathlib import Path

import g3_agents.smurf_recorder
from g3stream.contract.headers import Kind
from testbed.kafka.broker import Broker
from testbed.smurf.simulator import Simulator
from tests.ocs.agents import Observatory, data, process_of
from tests.support.processes import Program, eventually


def await_frames(observatory: Observatory, count: int) -> None:
    """Until ingest has received so many; what is still on its way when it stops is nobody's promise."""
    client = observatory.client("recorder")
    eventually(lambda: data(client.record).get("frames") == count, f"{count} frames are received")


def await_files(observatory: Observatory, count: int) -> None:
    eventually(lambda: len(observatory.files()) == count, f"{count} files are finished")


def ends(agent: Program, number: signal.Signals) -> None:
    """Stop it, and check that it stopped cleanly in time."""
    assert agent.stop(number) == 0
    assert not agent.times_of("not everything has stopped in time")


def test_sigterm_in_mid_acquisition_and_another_start(observatory: Observatory) -> None:
    observatory.create_topic()
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        agent = observatory.recorder(simulator.port)
        simulator.command("wait")
        simulator.command("start")
        sent = simulator.command("frames 40 --rate 40")["last"]
        await_frames(observatory, sent + 1)
        ends(agent, signal.SIGTERM)
        label, _, _ = observatory.records()[-1]
        assert (label.kind, label.why) == (Kind.LOST, "ingest stopped")
        (first,) = observatory.files()
        assert observatory.recorded() == list(range(sent + 1))

        agent = observatory.agent("recorder")
        simulator.command("wait")
        last = simulator.command("frames 40 --rate 40")["last"]
        # After a new connection the sender sends the last Observation and Wiring again.
        await_frames(observatory, 42)
        ends(agent, signal.SIGTERM)
        _, second = observatory.files()
        assert second.name[:19] > first.name[:19]  # another acquisition, not the next file of that one
        assert observatory.recorded()[sent + 1 :] == [0, 1, *range(last - 39, last + 1)]
        assert "LOST" not in agent.log


def test_sigint_in_mid_acquisition_of_a_file_that_is_no_plugin(observatory: Observatory) -> None:
    observatory.create_topic()
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        file = str(Path(g3_agents.smurf_recorder.__file__))
        agent = observatory.recorder(simulator.port, how=("--agent", file, "--entrypoint", "main"))
        simulator.command("wait")
        simulator.command("start")
        sent = simulator.command("frames 40 --rate 40")["last"]
        await_frames(observatory, sent + 1)
        ends(agent, signal.SIGINT)
        assert len(observatory.files()) == 1
        assert observatory.recorded() == list(range(sent + 1))


def test_sigterm_while_kafka_is_away(observatory: Observatory, tmp_path: Path) -> None:
    with (
        Broker(tmp_path / "kafka") as broker,
        Simulator(stream_id=observatory.stream, alive=True) as simulator,
    ):
        observatory.servers = broker.bootstrap_servers
        observatory.create_topic()
        agent = observatory.recorder(simulator.port)
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 20")
        agent.await_line(": opened ")
        broker.kill()
        sent = simulator.command("frames 20")["last"]
        await_frames(observatory, sent + 1)
        ends(agent, signal.SIGTERM)
        broker.start()
        agent = observatory.agent("recorder")
        agent.await_line(": finished ")
        assert observatory.recorded() == list(range(sent + 1))
        assert "LOST" not in agent.log
        assert agent.stop() == 0


def test_a_burst_of_signals_while_nobody_reads_the_log(observatory: Observatory) -> None:
    observatory.create_topic()
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        agent = observatory.recorder(simulator.port)
        simulator.command("wait")
        client = observatory.client("recorder")
        agent.leave_log_unread(4096)
        for acquisition in range(20):  # 4 lines each
            simulator.command("start")
            simulator.command("frames 1")
            simulator.command("end")
            await_files(observatory, acquisition + 1)
        eventually(lambda: data(client.record).get("finished") == 20, "OCS sees it")
        for _ in range(100):
            agent.send(signal.SIGTERM)
            agent.send(signal.SIGINT)
        ends(agent, signal.SIGTERM)


def test_the_process_for_ocs_ends_with_a_recorder_that_is_killed(observatory: Observatory) -> None:
    agent = observatory.recorder(1)
    child = process_of(observatory.client("recorder"))
    assert child != agent.pid
    agent.kill()
    eventually(lambda: not Path(f"/proc/{child}").exists(), "it has ended")
