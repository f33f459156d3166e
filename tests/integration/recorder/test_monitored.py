"""--http on the real programs: what they report is true, and clients don't disturb the recording."""

import contextlib
import json
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from g3stream.contract.headers import Kind
from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.support.processes import SECONDS, Program, RawSender, Recorder, eventually, flow, get, scan

LATE_SECONDS = 1.0
"""A frame that ingest takes so long to receive is late; one stalled client waits for five times that."""


def metrics(port: int) -> dict[str, float]:
    """By name; values with different labels are added up."""
    status, text = get(port, "/metrics")
    assert status == 200
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_metrics_tell_what_was_received_rejected_recorded_and_finished(recorder: Recorder) -> None:
    recorder.create_topic()
    ours, theirs = free_port(), free_port()
    bad = bytearray(scan(20))
    bad[-1] ^= 1
    frames = [scan(number) for number in range(20)]
    with RawSender() as sender:
        archiver = recorder.archiver("--http", str(theirs))
        recorder.ingest(sender.port, "--http", str(ours))
        with sender.accept() as connection:
            connection.sendall(flow(1) + b"".join(frames) + bytes(bad) + flow(2))
            archiver.await_line("finished .* 20 frames")
            eventually(lambda: metrics(ours)["g3_ingest_spool_bytes"] == 0, "all is in Kafka")
            # The event comes before the line that we have seen; what was collected just before is reused.
            eventually(lambda: metrics(theirs)["g3_archiver_frames_total"] == 20, "all is durable")
            found = metrics(ours)
            expected = {
                "connected": 1,
                "healthy": 1,
                "acquiring": 0,  # END has come
                "reconnects_total": 0,
                "frames_total": 20,
                "frame_bytes_total": sum(map(len, frames)),
                "rejected_frames_total": 1,
                "stalls_total": 0,
            }
            assert {name: found[f"g3_ingest_{name}"] for name in expected} == expected
            # lost (ingest started), connected, START, 20 frames, END, and the rejected one; quiet ones may have come.
            assert found["g3_ingest_publish_latency_seconds_count"] >= 25
            # Not of the same moment: a quiet record may be on its way.
            eventually(lambda: metrics(ours)["g3_ingest_spool_oldest_age_seconds"] == 0, "none waits for Kafka")
            found = metrics(theirs)
            expected = {
                "healthy": 1,
                "frame_bytes_total": sum(map(len, frames)),
                "files_finished_total": 1,
                "durable_latency_seconds_count": 20,
                "losses_total": 0,
                "open_file_bytes": 0,
                "stopped": 0,
            }
            assert {name: found[f"g3_archiver_{name}"] for name in expected} == expected
            assert (
                'files_finished_total{stream="' + recorder.stream + '",why="end"} 1.0' in get(theirs, "/metrics")[1]
            )
            connection.sendall(flow(1) + scan(100))
            eventually(lambda: metrics(theirs)["g3_archiver_open_file_bytes"] == len(scan(100)), "the next is open")
            assert metrics(theirs)["g3_archiver_missing_frames_total"] == 0
            assert metrics(ours)["g3_ingest_acquiring"] == 1
        eventually(lambda: metrics(ours)["g3_ingest_acquiring"] == 0, "its sender is gone")


def test_health_says_what_is_wrong_and_when_it_isnt_any_more(recorder: Recorder) -> None:
    port, http_port = free_port(), free_port()
    ingest = recorder.ingest(port, "--http", str(http_port))
    ingest.await_line("health at /healthz")
    disconnected = (503, f"no connection to 127.0.0.1:{port}\n")
    eventually(lambda: get(http_port, "/healthz") == disconnected, "its spool is open, and it isn't connected")
    with RawSender(port) as sender, sender.accept():
        eventually(lambda: get(http_port, "/healthz") == (200, "ok\n"), "it is connected")
    eventually(lambda: "(closed: the sender closed it)" in get(http_port, "/healthz")[1], "it isn't any more")


def test_without_kafka_both_say_so_and_the_spools_age_grows(recorder: Recorder) -> None:
    away = ("--bootstrap-servers", f"127.0.0.1:{free_port()}")
    ours, theirs = free_port(), free_port()
    with RawSender() as sender:
        recorder.archiver("--http", str(theirs), *away)
        recorder.ingest(sender.port, "--http", str(ours), *away).await_line("health at")
        with sender.accept() as connection:
            connection.sendall(scan(0))
            eventually(lambda: "can't be used yet" in get(ours, "/healthz")[1], "ingest has noticed")
            eventually(lambda: get(theirs, "/healthz")[0] == 503, "the archiver has noticed")
            eventually(lambda: metrics(ours)["g3_ingest_spool_oldest_age_seconds"] > 1, "what waits is a second old")
            assert metrics(ours)["g3_ingest_spool_bytes"] > len(scan(0))
            assert metrics(ours)["g3_ingest_connected"] == 1


@pytest.mark.slow
def test_an_archiver_that_has_nothing_to_record_hears_that_kafka_is_back(stream: str, tmp_path: Path) -> None:
    port = free_port()
    broker = Broker(tmp_path / "kafka")
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        archiver = recorder.archiver("--http", str(port))
        archiver.await_line("health at")
        try:
            for _ in range(2):
                eventually(lambda: "Kafka: " in get(port, "/healthz")[1], "it isn't there")
                broker.start()
                eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "it is there")
                broker.kill()
        finally:
            broker.stop()
        assert archiver.stop() == 0


def test_by_default_nothing_listens_and_if_asked_only_for_this_host(recorder: Recorder) -> None:
    def listening(program: Program) -> list[tuple[str, int]]:
        found = psutil.Process(program.pid).net_connections()
        return [(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN]

    port = free_port()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        with sender.accept():
            ingest.await_line("connected to")
            assert listening(ingest) == []
            assert ingest.stop() == 0
        ingest = recorder.ingest(sender.port, "--http", str(port))
        with sender.accept():
            ingest.await_line("connected to")
            assert listening(ingest) == [("127.0.0.1", port)]
            assert ingest.stop() == 0


def test_a_port_that_is_taken_is_said_and_keeps_nobody_from_recording(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        taken = ("--http", str(sender.port))
        archiver, ingest = recorder.archiver(*taken), recorder.ingest(sender.port, *taken)
        with sender.accept() as connection:
            for program in (ingest, archiver):
                program.await_line(
                    f"ERROR .*can't listen on 127.0.0.1:{sender.port}: Address already in use; recording"
                )
            connection.sendall(scan(0) + flow(2))
            archiver.await_line("finished .* 1 frames")
        assert (ingest.stop(), archiver.stop()) == (0, 0)


def test_json_lines_are_all_of_the_log(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        archiver = recorder.archiver("--log-format", "json")
        ingest = recorder.ingest(sender.port, "--log-format", "json")
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + flow(2))
            archiver.await_line("finished")
        ingest.await_line("connection closed")
        assert (ingest.stop(), archiver.stop()) == (0, 0)
    for program in (ingest, archiver):
        lines = [json.loads(line) for line in program.log.splitlines()]
        assert {line["level"] for line in lines} <= {"info", "warning", "error"}
        assert recorder.stream in {line.get("stream") for line in lines}


def test_hundreds_of_stalled_and_hostile_clients_hold_up_neither_recording_nor_prometheus(recorder: Recorder) -> None:
    recorder.create_topic()
    ours, theirs = free_port(), free_port()
    frames = [scan(number, 20_000) for number in range(200)]
    with ExitStack() as stack:
        sender = stack.enter_context(RawSender())
        archiver = recorder.archiver("--http", str(theirs))
        ingest = recorder.ingest(sender.port, "--http", str(ours))
        connection = stack.enter_context(sender.accept())
        archiver.await_line("recording ")
        for port in (ours, theirs):
            for number in range(300):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS))
                if number % 2:
                    client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: ")
        over = threading.Event()
        stack.callback(over.set)
        for port in (ours, theirs):
            threading.Thread(target=_flood, args=(port, over), daemon=True).start()
        sent = []
        for frame in frames:
            sent.append(time.time())
            connection.sendall(frame)
            time.sleep(0.01)  # as a detector sends them: all the while that the others stall
        eventually(lambda: metrics(theirs)["g3_archiver_frames_total"] == 200, "all is durable, and Prometheus knows")
        over.set()
        late = metrics(theirs)
        connection.sendall(flow(2))
        archiver.await_line("finished .* 200 frames")
        assert (ingest.stop(), archiver.stop()) == (0, 0)
    received = [at / 1000 for label, at, _ in recorder.records() if label.kind is Kind.FRAME]
    assert len(received) == len(sent)
    assert max(there - here for here, there in zip(sent, received, strict=True)) < LATE_SECONDS
    assert late["g3_archiver_durable_latency_seconds_sum"] / 200 < 1 + LATE_SECONDS, "a commit a second, as ever"


def _flood(port: int, over: threading.Event) -> None:
    """Ask again and again, never reading an answer."""
    while not over.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
