"""Two ingests on different hosts read the same sender: a mistake that must be noticed, and must cost nothing."""

from pathlib import Path

from tests.support.processes import RawSender, Recorder, flow, scan


def test_two_ingests_of_one_stream_are_reported_and_both_are_recorded(
    kafka: str, stream: str, tmp_path: Path
) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as one, RawSender() as two:
        recorder.create_topic()
        archiver = recorder.archiver()
        first = recorder.ingest(one.port)
        second = recorder.ingest(two.port, "--spool-dir", str(tmp_path / "another host"))
        with one.accept() as here, two.accept() as there:
            for number in range(3):
                for connection, of in ((here, first), (there, second)):
                    connection.sendall(flow(1) + scan(2 * number + (of is second)) + flow(2))
                    archiver.await_line(r"finished .* \(end\)", count=2 * number + 1 + (of is second))
            archiver.await_line("two ingests publish to this stream at once")
    recorded = sorted(file.read_bytes() for file in recorder.files())
    assert recorded == sorted(scan(number) for number in range(6))
