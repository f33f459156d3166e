"""Frames far larger than a broker's messages."""

import hashlib
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    ConfigResource,
    ResourceType,
)

from g3stream.contract.headers import CHUNK_BYTES
from g3stream.contract.topics import frames_topic
from tests.support.processes import Program, RawSender, Recorder, admin_client, flow, frame_by_hand, scan

FRAME_BYTES = 100_000_000
MOST_MEMORY = 600_000_000
DEFAULT_MESSAGE_BYTES = "1048588"


@contextmanager
def watched(program: Program) -> Iterator[list[int]]:
    """The program's anonymous memory while the block runs, bytes, looked at a hundred times a second."""
    seen = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.01):
            status = Path(f"/proc/{program.pid}/status").read_text()
            if (match := re.search(r"RssAnon:\s+(\d+) kB", status)) is not None:
                seen.append(int(match[1]) * 1024)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


@pytest.mark.slow
def test_frames_of_100_mb_byte_for_byte_in_little_memory(recorder: Recorder) -> None:
    noise = random.Random(3).randbytes(FRAME_BYTES)
    frames = [scan(0), *(frame_by_hand([("d", noise), ("n", b"%d" % n)], ord("S")) for n in range(2)), scan(1)]
    expected = hashlib.sha256(b"".join(frames)).hexdigest()
    with RawSender() as sender:
        # ingest creates the topic: with the broker's default limits, not those of the test.
        ingest = recorder.ingest(sender.port)
        ingest.await_line("created the topic")
        archiver = recorder.archiver()
        with sender.accept() as connection, watched(ingest) as in_ingest, watched(archiver) as in_archiver:
            for data in frames:
                connection.sendall(data)
            connection.sendall(flow(2))
            archiver.await_line(r"finished .* \(end\)", 60)

    [file] = recorder.files()
    with file.open("rb") as opened:
        assert hashlib.file_digest(opened, "sha256").hexdigest() == expected
    resource = ConfigResource(ResourceType.TOPIC, frames_topic(recorder.stream))
    admin = admin_client(recorder.servers)
    settings = admin.describe_configs([resource])[resource].result()
    assert settings["max.message.bytes"].value == DEFAULT_MESSAGE_BYTES
    assert max(len(value) for _, _, value in recorder.records()) <= CHUNK_BYTES < int(DEFAULT_MESSAGE_BYTES)
    print(f"anonymous memory at most: ingest {max(in_ingest) / 1e6:.0f} MB, archiver {max(in_archiver) / 1e6:.0f} MB")
    assert max(in_ingest) < MOST_MEMORY
    assert max(in_archiver) < MOST_MEMORY
