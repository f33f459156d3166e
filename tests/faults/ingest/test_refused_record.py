"""Kafka, or its client, refuses some of many records that arrived together: those wait in the spool; none is lost."""

from pathlib import Path

from g3stream.contract.headers import Kind
from g3stream.contract.topics import frames_topic
from tests.support.processes import RawSender, Recorder, alter_topic, eventually, flow, scan


def test_a_refused_record_among_others_is_published_once_it_is_taken(kafka: str, stream: str, tmp_path: Path) -> None:
    sent = [scan(0), *(scan(n, 200_000 if n == 4 else 1000) for n in range(1, 10))]
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest = recorder.ingest(sender.port)
        connection = sender.accept()
        connection.sendall(flow(1) + sent[0])
        eventually(lambda: len(_frames(recorder)) == 1, "its first frame is in the topic")
        alter_topic(kafka, frames_topic(stream), {"max.message.bytes": "100000"})
        connection.sendall(b"".join(sent[1:]))  # among these is one that is refused; those after it are not
        ingest.await_line("Kafka refuses records in .*|records can't be published: .* max.message.bytes=100000")
        alter_topic(kafka, frames_topic(stream), {"max.message.bytes": "1048588"})
        eventually(lambda: len(_frames(recorder)) == len(sent), "all of them are in the topic")
        assert _frames(recorder) == sent
        assert ingest.stop() == 0


def test_a_client_that_holds_few_records_is_given_the_others_later(kafka: str, stream: str, tmp_path: Path) -> None:
    config = tmp_path / "client.properties"
    config.write_text("queue.buffering.max.messages=5\n")
    sent = [scan(n, 1000) for n in range(100)]
    with Recorder(kafka, stream, tmp_path) as recorder, RawSender() as sender:
        recorder.create_topic()
        ingest = recorder.ingest(sender.port, "--kafka-config", str(config))
        sender.accept().sendall(flow(1) + b"".join(sent))
        eventually(lambda: len(_frames(recorder)) == len(sent), "all of them are in the topic")
        assert _frames(recorder) == sent
        assert ingest.stop() == 0


def _frames(recorder: Recorder) -> list[bytes]:
    """The frames in the topic, each once: what was sent again after a refusal is a duplicate by its seq."""
    found: dict[int, tuple[Kind, bytes]] = {}
    for headers, _, value in recorder.records():
        assert headers.seq <= len(found), "one is missing in between"
        found.setdefault(headers.seq, (headers.kind, value))
    return [value for kind, value in found.values() if kind is Kind.FRAME]
