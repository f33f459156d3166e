"""A topic whose records have Kafka's time, not that of their receipt (LogAppendTime): it is always reported."""

from pathlib import Path

from g3stream.contract.topics import frames_topic
from testbed.child_process import free_port
from tests.support.health import await_health, await_healthy
from tests.support.processes import RawSender, Recorder, alter_topic, eventually, flow, get, run_archiver, scan


def set_type(recorder: Recorder, value: str) -> None:
    alter_topic(recorder.servers, frames_topic(recorder.stream), {"message.timestamp.type": value})


def test_all_report_it_and_ingest_keeps_what_arrives_until_it_is_corrected(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver("--http", str(port := free_port()))
        with sender.accept() as connection:
            connection.sendall(scan(1))
            archiver.await_line("opened")
            set_type(recorder, "LogAppendTime")
            connection.sendall(scan(2))
            ingest.await_line("ERROR .*message.timestamp.type=LogAppendTime.*to fix it: kafka-configs.sh")
            archiver.await_line("ERROR .*from offset [0-9]+ on .*LogAppendTime.*to fix it: kafka-configs.sh")
            ingest.await_line("WARNING records can't be published: .*LogAppendTime.* wait in the spool")
            await_health(port, recorder.stream, "message.timestamp.type=LogAppendTime")
            eventually(lambda: recorder.committed() > 0, "something is committed")
            status = run_archiver(recorder.servers, "status", "--group", f"{recorder.stream}.archive")
            assert "LogAppendTime" in status.stdout
            connection.sendall(scan(3) + flow(2))
            set_type(recorder, "CreateTime")
            archiver.await_line("INFO .*records have their times of receipt again")
            archiver.await_line(r"finished .* \(end\)")
            await_healthy(port)
        assert ingest.stop() == 0
    eventually(lambda: get(port, "/healthz")[0] == 200, "still well")
    assert archiver.stop() == 0
    frames = b"".join(file.read_bytes() for file in recorder.files())
    assert frames == scan(1) + scan(2) + scan(3)
    replay = recorder.command("replay", into=tmp_path / "again")
    assert replay.returncode == 0
    assert "Kafka's times (message.timestamp.type=LogAppendTime)" in replay.stdout + replay.stderr
    verify = recorder.command("verify", "--against-topic")
    assert verify.returncode == 0
    assert "with Kafka's times (LogAppendTime), not those of receipt: nothing is wrong" in verify.stdout
    again = {path.name: path.read_bytes() for path in (tmp_path / "again").glob("[0-9]*/*/*.g3")}
    assert again == {path.name: path.read_bytes() for path in recorder.files()}


def test_an_archiver_that_is_started_reports_it_before_a_record_arrives(recorder: Recorder) -> None:
    """It may be long until the next one: ingest publishes none."""
    recorder.create_topic()
    set_type(recorder, "LogAppendTime")
    archiver = recorder.archiver("--http", str(port := free_port()))
    archiver.await_line(f"recording {recorder.stream}")
    await_health(port, "message.timestamp.type=LogAppendTime", seconds=10)
    set_type(recorder, "CreateTime")
    await_healthy(port)
    assert archiver.stop() == 0
