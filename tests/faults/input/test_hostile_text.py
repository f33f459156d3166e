"""Text from Kafka and from file names can't control the terminal that shows a log or a command's output."""

import json
import time
from pathlib import Path

from confluent_kafka import Producer

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import FILES_TOPIC, frames_topic
from tests.support.commands import archiver, close
from tests.support.processes import SECONDS, RawSender, Recorder, eventually, flow, scan

ESCAPE = "\x1b[2J\r\nforged"
ESCAPED = r"\x1b[2J\r\nforged"


def assert_harmless(text: str) -> None:
    lines = text.split("\n")
    assert all(line.isprintable() for line in lines), text
    assert not any(line.startswith("forged") for line in lines), text
    assert ESCAPED in text


def test_hostile_text_in_kafka_is_escaped_wherever_it_is_shown(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest = recorder.ingest(sender.port)
        running = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + flow(2))
            running.await_line("finished")
        assert ingest.stop() == 0
        producer = Producer({"bootstrap.servers": kafka})
        record = RecordHeaders(Kind.LOST, "b" * 16, 0, why="x")
        headers: list[tuple[str, str | bytes | None]] = [
            (name, ESCAPE.encode() if name == "why" else value) for name, value in record.to_kafka()
        ]
        long_ago = round(1000 * (time.time() - 3600))
        producer.produce(frames_topic(stream), b"", headers=headers, timestamp=long_ago, partition=0)
        event = json.dumps({"event": ESCAPE}).encode()
        group = f"{stream}.archive"
        producer.produce(FILES_TOPIC, event, key=f"{group}/{stream}/x".encode(), partition=0)
        producer.produce(FILES_TOPIC, ESCAPE.encode(), key=f"{group}/{stream}/x".encode(), partition=0)
        assert producer.flush(SECONDS) == 0

        assert_harmless(close(recorder).stdout)
        assert_harmless(archiver(recorder, "files", "--group", group).stderr)


def test_a_hostile_file_name_is_escaped_in_the_log_and_by_verify(kafka: str, stream: str, tmp_path: Path) -> None:
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        recorder.ingest(sender.port)
        running = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0))
            running.await_line(": opened ")
            private = recorder.data() / ".archiver" / stream
            (private / f"x{ESCAPE}").write_bytes(b"x")
            connection.sendall(flow(2))
            running.await_line("finished")
            eventually(lambda: bool(recorder.files()), "it is a file")
            foreign = recorder.files()[0].with_name(f"2000{ESCAPE}.g3")
            foreign.write_bytes(b"x")
        assert_harmless(recorder.command("verify").stdout)
        assert all(line.isprintable() for _, line in running.lines)
