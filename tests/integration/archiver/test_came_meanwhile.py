"""A stream whose topic is made while the archiver is away for a moment, as in an update of it."""

from pathlib import Path

from tests.support.processes import RawSender, Recorder, flow, scan


def test_a_stream_that_came_while_the_archiver_was_away_is_recorded(kafka: str, stream: str, tmp_path: Path) -> None:
    second = f"later-{stream[-8:]}"
    both = ("--stream", second)
    with Recorder(kafka, stream, tmp_path / "first") as recorder, RawSender() as sender:
        recorder.ingest(sender.port)
        connection = sender.accept()
        connection.sendall(flow(1) + scan(1))
        archiver = recorder.archiver(*both)
        archiver.await_line(f"{stream}: opened")
        archiver.stop()
        with Recorder(kafka, second, tmp_path / "second") as other, RawSender() as later:
            other.create_topic()
            other.ingest(later.port)
            second_connection = later.accept()
            second_connection.sendall(flow(1) + scan(1))
            archiver = recorder.archiver(*both)
            archiver.await_line(f"{stream}: continuing")
            # One that comes a moment later is found within 6 s.
            archiver.await_line(f"{second}: opened", seconds=20)
