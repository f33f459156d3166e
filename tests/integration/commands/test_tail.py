"""`archiver tail`: a stream's last frames, and what comes."""

import json
import os
import re
import signal
import subprocess
import sys

from confluent_kafka import Producer
from spt3g import core

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.host.environment import now_ms
from tests.support.commands import archiver
from tests.support.frames import frame as hostile_frame
from tests.support.frames import nested
from tests.support.processes import SECONDS, Recorder, flow, frame, scan

A = "a" * 16
CHUNK_BYTES = 900_000
NOW_MS = now_ms()
OBSERVATION = frame(core.G3FrameType.Observation, sostream_id="crate1slot2", session_id=1_795_385_173)
BIG = scan(7, 2_500_000)


def publish(recorder: Recorder, *records: tuple[RecordHeaders, bytes]) -> None:
    """Publish records as ingest does, one each 0.1 s from an hour ago on."""
    producer = Producer({"bootstrap.servers": recorder.servers})
    for headers, value in records:
        time_ms = NOW_MS - 3_600_000 + 100 * headers.seq
        producer.produce(
            frames_topic(recorder.stream), value, headers=[*headers.to_text()], timestamp=time_ms, partition=0
        )
    assert producer.flush(SECONDS) == 0


def header(seq: int, kind: Kind = Kind.FRAME, name: str | None = "Scan", **more: object) -> RecordHeaders:
    """Return the headers of a record."""
    code = None if name is None else FRAME_TYPES[name]
    return RecordHeaders(kind, A, seq, code)._replace(**more)  # type: ignore[arg-type]


def in_chunks(headers: RecordHeaders, value: bytes) -> list[tuple[RecordHeaders, bytes]]:
    """Return a record in chunks."""
    count = len(value) // CHUNK_BYTES + 1
    parts = [value[CHUNK_BYTES * k : CHUNK_BYTES * (k + 1)] for k in range(count)]
    return [(headers._replace(chunk=(k, count)), part) for k, part in enumerate(parts, 1)]


def fill(recorder: Recorder) -> None:
    """Fill the stream's topic: START, an Observation, a Scan in three chunks, one after a loss, END, disconnected."""
    recorder.create_topic()
    publish(
        recorder,
        (header(0, Kind.START, "none"), flow(1)),
        (header(1, name="Observation", id="crate1slot2", session=1_795_385_173), OBSERVATION),
        *in_chunks(header(2, num=7), BIG),
        (header(5, num=8), scan(8)),
        (header(6, Kind.END, "none"), flow(2)),
        (header(7, Kind.QUIET, None), b""),
        (header(8, Kind.LOST, None, why="closed by the sender"), b""),
    )


def test_the_last_frames_are_shown_with_what_stands_between_them(recorder: Recorder) -> None:
    fill(recorder)
    shown = archiver(recorder, "tail", recorder.stream)
    assert (shown.returncode, shown.stderr) == (0, "")
    clock = r"\d\d:\d\d:\d\d\.\d\d\d  "
    expected = [
        "time +type +session +number +size +id +keys",
        r"--- \d{4}-\d\d-\d\d UTC",
        f"{clock}START",
        f"{clock}Observation  1795385173 +\\d+ B  crate1slot2 +(sostream_id session_id|session_id sostream_id)",
        f"{clock}Scan +7 +2.5 MB +(frame_num data|data frame_num)",
        rf"LOST 2 records, missing: {A}:3 to {A}:4",
        f"{clock}Scan +8 +1.* [k]?B .*",
        f"{clock}END",
        f"{clock}disconnected: closed by the sender",
    ]
    lines = [line for line in shown.stdout.splitlines() if not line.startswith("---")]
    for line, pattern in zip(lines, [it for it in expected if not it.startswith("---")], strict=True):
        assert re.fullmatch(pattern, line), (pattern, line)
    last = archiver(recorder, "tail", recorder.stream, "-n", "1")
    assert [line.split()[1] for line in last.stdout.splitlines()[2:]] == ["Scan", "END", "disconnected:"]


def test_as_json_and_as_a_dump_also_of_a_frame_that_crashes_spt3g(recorder: Recorder) -> None:
    fill(recorder)
    shown = archiver(recorder, "tail", recorder.stream, "--json", "--since", "-2h")
    items = [json.loads(line) for line in shown.stdout.splitlines()]
    assert [it["kind"] for it in items] == ["start", "frame", "frame", "loss", "frame", "end", "lost"]
    assert items[2] | {"time": "", "keys": []} == {
        "kind": "frame", "stream": recorder.stream, "offset": 2, "time": "", "type": "Scan", "session": None,
        "number": 7, "bytes": len(BIG), "id": None, "keys": [],
    }  # fmt: skip
    assert (items[3]["records"], items[3]["cause"]) == (2, "missing")
    crashing = hostile_frame([(b"deep", nested(100_000))])
    publish(recorder, *in_chunks(header(9), crashing), (header(10, num=9), scan(9)))
    dumped = archiver(recorder, "tail", recorder.stream, "-n", "2", "--dump")
    assert dumped.returncode == 0
    assert "(the frame at offset 9 can't be shown: spt3g crashed on it)" in dumped.stdout
    assert '"frame_num" (spt3g.core.G3Int) => 9' in dumped.stdout


def test_followed_it_shows_what_comes_and_a_missing_stream_is_an_error(recorder: Recorder) -> None:
    fill(recorder)
    follow = [sys.executable, "-m", "archiver", "tail", recorder.stream, "-n", "1", "--follow", "--json"]
    servers = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": recorder.servers}
    with subprocess.Popen(
        follow, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=servers
    ) as program:
        assert program.stdout
        kinds = [json.loads(program.stdout.readline())["kind"] for _ in range(3)]
        publish(recorder, (header(9, num=9), scan(9)))
        came = json.loads(program.stdout.readline())
        program.send_signal(signal.SIGINT)
    assert (kinds, came["number"], program.returncode) == (["frame", "end", "lost"], 9, 128 + signal.SIGINT)
    missing = archiver(recorder, "tail", "nobody")
    assert missing.returncode == 1
    assert "has no topic g3.frames.nobody" in missing.stderr
