"""SmurfIngest and SmurfArchiver, for sites that run them on different hosts."""

from testbed.smurf.simulator import Simulator
from tests.ocs.agents import Observatory, data, ocs
from tests.support.processes import PATIENT, SECONDS, eventually


def test_both_agents_record_together_and_the_archiver_continues_its_file(observatory: Observatory) -> None:
    stream = observatory.stream
    spool = str(observatory.directory / "spool")
    observatory.create_topic()
    with Simulator(stream_id=stream, alive=True) as simulator:
        # The flat form of the list, and a number that is one.
        observatory.block(
            {
                "agent-class": "SmurfIngest",
                "instance-id": "ingest",
                "arguments": [
                    *("--auto-start", True, "--port", simulator.port, "--address", "127.0.0.1"),
                    *("--stream-id", stream, "--spool-dir", spool, "--timeout", str(SECONDS)),
                ],
            }
        )
        where = ["--data-dir", str(observatory.data()), "--stream-id", stream, "other", *observatory.group]
        observatory.block(
            {
                "agent-class": "SmurfArchiver",
                "instance-id": "archiver",
                "arguments": ["--auto-start", "True", "--time-per-file", 600, *PATIENT, *where],
            }
        )
        ingest, archiver = observatory.agent("ingest"), observatory.agent("archiver")
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 20")
        reading, writing = observatory.client("ingest"), observatory.client("archiver")
        eventually(lambda: data(reading.ingest).get("frames") == 22, "ingest counts them")
        assert data(reading.ingest)["state"] in ("receiving", "connected")
        assert "file" not in data(reading.ingest)

        def frames() -> int:
            recording = data(writing.archive).get("streams", {}).get(stream, {})
            return int((recording.get("file") or {"frames": 0})["frames"])

        eventually(lambda: frames() == 22, "archiver has them in a file")
        assert not writing.archive.status().session["degraded"]

        assert archiver.stop() == 0
        assert observatory.files() == []
        simulator.command("frames 20")
        archiver = observatory.agent("archiver")
        archiver.await_line("recording " + stream)
        writing = observatory.client("archiver")
        eventually(lambda: frames() == 42, "the same file is continued")

        assert writing.archive.stop().status == ocs.OK
        assert writing.archive.wait(timeout=10).session["success"] is True
        simulator.command("frames 20")
        assert writing.archive.start().status == ocs.OK
        eventually(lambda: frames() == 62, "and again, without another start of the agent")
        simulator.command("end")
        archiver.await_line(": finished ")
        assert observatory.recorded() == list(range(63))  # with the Observation that goes before END
        eventually(lambda: data(writing.archive)["finished"] == 1, "the file is shown")

        assert reading.ingest.stop().status == ocs.OK
        assert reading.ingest.wait(timeout=10).session["success"] is True
        assert ingest.stop() == archiver.stop() == 0
        assert "LOST" not in archiver.log
