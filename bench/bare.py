"""The loops to measure against: what a user would write with confluent-kafka in an afternoon, and nothing more.

No spool, no checks, no files cut: as little work as can move the same bytes with the same settings.

  python -m bench.bare ingest SERVERS TOPIC PORT FRAME_BYTES FRAMES    socket → acknowledged
  python -m bench.bare archiver SERVERS TOPIC BYTES FILE               topic → durable file; prints the seconds
"""

import os
import socket
import sys
import time
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from archiver.feed import CONSUMER_CONFIG
from archiver.history import BATCH_BYTES
from ingest.publisher import PRODUCER_CONFIG
from ingest.topic import CHUNK_BYTES


def ingest(servers: str, topic: str, port: int, frame_bytes: int, frames: int) -> None:
    """Read frames of a known size from the port and produce them, the large ones in the same chunks."""
    producer = Producer({**PRODUCER_CONFIG, "bootstrap.servers": servers})
    chunks = -(-frame_bytes // CHUNK_BYTES)
    part = -(-frame_bytes // chunks)
    with socket.create_connection(("127.0.0.1", port)) as sender:
        frame = bytearray(frame_bytes)
        for _ in range(frames):
            have = 0
            with memoryview(frame) as view:
                while have < frame_bytes:
                    have += sender.recv_into(view[have:])
            for at in range(0, frame_bytes, part):
                while True:
                    try:
                        producer.produce(topic, bytes(frame[at : at + part]), partition=0)
                        break
                    except BufferError:
                        producer.poll(0.01)
            producer.poll(0)
    producer.flush()


def archiver(servers: str, topic: str, total: int, path: Path) -> float:
    """Write that many bytes of the topic's values into the file, syncing each batch; gives the seconds they took."""
    consumer = Consumer({**CONSUMER_CONFIG, "bootstrap.servers": servers, "group.id": "bare"})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    started = 0.0
    written = 0
    with path.open("wb", buffering=0) as file:
        while written < total:
            values, size = [], 0
            message = consumer.poll(1)
            while message is not None:
                if not started:
                    started = time.perf_counter()
                if error := message.error():
                    raise SystemExit(error.str())
                values.append(message.value() or b"")
                size += len(values[-1])
                if size >= BATCH_BYTES or len(values) == 1024:  # IOV_MAX
                    break
                message = consumer.poll(0)
            if values:
                written += os.writev(file.fileno(), values)
                os.fdatasync(file.fileno())
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


if __name__ == "__main__":
    if sys.argv[1] == "ingest":
        ingest(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
    else:
        print(archiver(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5])))
