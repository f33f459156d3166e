"""SmurfRecorder as the one it takes the place of: its block in a site file, its process, its feeds."""

import pytest

from testbed.smurf.simulator import Simulator
from tests.ocs.agents import Observatory, data, ocs
from tests.support.processes import eventually

# As it stands in observatories' site files, and in issue 6.
BLOCK = {'agent-class': 'SmurfRecorder', 'instance-id': 'smurf-recorder', 'arguments': [['--auto-start', True], ['--time-per-file', '600'], ['--data-dir', '/data/'], ['--port', '50000'], ['--address', 'smurf-stream-sim'], ['--stream-id', 'crate1slot2']]}  # fmt: skip  # noqa: E501


def test_a_site_file_of_today_records_and_is_controlled_over_the_wire(observatory: Observatory) -> None:
    observatory.block(BLOCK)
    with (
        Simulator(stream_id="crate1slot2", alive=True) as simulator,
        observatory.listening("smurf-recorder") as feeds,
    ):
        # What isn't there on this machine is said on the command line, which wins over the site file.
        here = ["--address", "127.0.0.1", "--port", str(simulator.port), "--data-dir", str(observatory.data())]
        agent = observatory.start(
            "g3_agents.smurf_recorder", "--instance-id", "smurf-recorder", *here, *observatory.group
        )
        simulator.command("wait")
        client = observatory.client("smurf-recorder")
        simulator.command("start")
        simulator.command("frames 30 --rate 30")
        eventually(lambda: (data(client.record).get("file") or {}).get("frames") == 32, "all are in a file")

        reply = client.record.status()
        assert reply.status == ocs.OK
        session = reply.session
        assert (session["status"], session["degraded"]) == ("running", False)
        assert session["op_code"] == ocs.OpCode.RUNNING.value
        shown = session["data"]
        assert (shown["stream"], shown["state"], shown["problems"]) == ("crate1slot2", "recording", [])
        assert shown["frames"] == 32
        assert shown["connection"]["source"] == shown["connection"]["peer"] == f"127.0.0.1:{simulator.port}"
        assert shown["frames_per_second"] > 0
        assert shown["spool"] == {"bytes": shown["spool"]["bytes"], "full": False, "stalls": 0, "unreadable": 0}
        path = data(client.record)["file"]["path"]
        assert path.split("/")[1] == "crate1slot2"

        # House-keeping, as the aggregator and the InfluxDB publisher take it.
        block = feeds.await_message("record", lambda m: "crate1slot2_archive" in m)["crate1slot2_archive"]
        assert set(block["data"]) == set(block["influxdb_tags"])
        assert block["influxdb_tags"]["lag_seconds"] == {"stream": "crate1slot2", "_field": "lag_seconds"}
        assert feeds.await_message("heartbeat", lambda m: m["record"] == ocs.OpCode.RUNNING.value)

        assert client.record.start().status == ocs.ERROR  # it runs
        assert client.record.wait(timeout=0.1).status == ocs.TIMEOUT
        assert client.record.stop().status == ocs.OK
        reply = client.record.wait(timeout=10)
        assert (reply.status, reply.session["status"], reply.session["success"]) == (ocs.OK, "done", True)
        assert [str(file.relative_to(observatory.data())) for file in observatory.files()] == [path]
        finished = feeds.await_message("files")
        assert (finished["event"], finished["path"], finished["frames"]) == ("file", path, 32)
        assert data(client.record)["last_files"] == [
            {name: finished[name] for name in data(client.record)["last_files"][0]}
        ]
        assert data(client.record)["state"] == "stopped"
        assert client.record.stop().status == ocs.ERROR

        reply = client.record.start(channels=[1, 2])
        assert (reply.status, reply.msg) == (ocs.ERROR, "params included unexpected values: ['channels']")
        assert client.record.start().status == ocs.OK
        simulator.command("wait")
        simulator.command("frames 10")
        eventually(lambda: (data(client.record).get("file") or {}).get("path", path) != path, "another acquisition")
        simulator.command("end")
        eventually(lambda: data(client.record)["finished"] == 2, "END has closed its file")
        assert agent.stop() == 0
        assert len(observatory.files()) == 2


def test_what_goes_wrong_is_said_by_degraded_and_in_words(observatory: Observatory) -> None:
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        port = simulator.port
        observatory.recorder(port)
        client = observatory.client("recorder")
        eventually(lambda: client.record.status().session["degraded"] is False, "all is well")
    eventually(lambda: client.record.status().session["degraded"] is True, "the sender is gone")
    reply = client.record.status()
    assert reply.session["op_code"] == ocs.OpCode.DEGRADED.value
    (problem,) = reply.session["data"]["problems"]
    assert problem.startswith(f"no connection to 127.0.0.1:{port} (closed: ")
    assert reply.session["data"]["state"] == "not connected"
    assert any("connection closed" in text for _, _, text in reply.session["data"]["last_errors"])
    with Simulator(port, stream_id=observatory.stream, alive=True):
        eventually(lambda: client.record.status().session["degraded"] is False, "it is back")


def test_without_auto_start_it_waits_for_the_client(observatory: Observatory) -> None:
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        observatory.recorder(simulator.port, "--auto-start", "no")
        client = observatory.client("recorder")
        reply = client.record.status()
        assert (reply.status, reply.msg, reply.session) == (ocs.OK, "No session active.", {})
        with pytest.raises(RuntimeError):
            simulator.command("wait 1")
        assert client.record.start().status == ocs.OK
        simulator.command("wait")


def test_finished_files_are_handed_over_and_what_waits_is_a_warning(observatory: Observatory) -> None:
    there, done = observatory.directory / "there", observatory.directory / "done"
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        agent = observatory.recorder(
            simulator.port, "--on-file", f"sh -c 'test -e {there} && echo $G3_EVENT $G3_PATH >> {done}'"
        )
        client = observatory.client("recorder")
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 10")
        simulator.command("end")
        eventually(lambda: bool(data(client.record).get("warnings")), "a warning")
        (warning,) = data(client.record)["warnings"]
        assert "on-file: 1 event waiting, the oldest for" in warning
        assert warning.endswith("exit code 1")
        assert not client.record.status().session["degraded"], "it records"
        there.touch()
        eventually(lambda: data(client.record).get("warnings") == [], "no warning any more")
        assert agent.stop() == 0
    (file,) = observatory.files()
    assert done.read_text() == f"file {file}\n"


def test_with_a_private_dir_the_data_dir_has_nothing_but_files(observatory: Observatory) -> None:
    private = observatory.directory / "private"
    with Simulator(stream_id=observatory.stream, alive=True) as simulator:
        arguments = ["--private-dir", str(private), "--checksums", "private"]
        agent = observatory.recorder(simulator.port, *arguments)
        client = observatory.client("recorder")
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 30 --rate 30")
        eventually(lambda: (data(client.record).get("file") or {}).get("frames") == 32, "all are in a file")
        assert list(observatory.data().iterdir()) == []
        assert (private / ".spool" / observatory.stream / "lock").exists()
        simulator.command("end")
        eventually(lambda: data(client.record)["finished"] == 1, "END has closed its file")
        assert agent.stop() == 0
    assert [it for it in observatory.data().rglob("*") if it.is_file()] == observatory.files()
    [sums] = private.glob("sha256sums.d/*/*.sha256")
    assert sums.read_text().endswith(f"  {observatory.files()[0].relative_to(observatory.data())}\n")
