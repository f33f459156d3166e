"""Bare loops to measure against: what a user would write with confluent-kafka in an afternoon.

They have no spool, no checks, no segmentation: the least work that moves the same bytes with the same settings.

  python -m bench.contestants.bare ingest SERVERS TOPIC PORT LENGTHS TIMES   socket → acknowledged
  python -m bench.contestants.bare archiver SERVERS TOPIC BYTES FILE         topic → durable file
  python -m bench.contestants.bare pump SERVERS TOPIC PORT                   socket → topic, live
  python -m bench.contestants.bare pour SERVERS TOPIC FILE                   topic → file, live

LENGTHS: sizes of the frames to receive, bytes, separated by commas; TIMES: how often the sequence is received. Both
print `ready` when they wait. At the end ingest prints `done`, the archiver a line of JSON: seconds and CPU seconds
from the first record on. ingest publishes an empty record before it is ready. pump and pour move data as soon as it
arrives: pump until the sender disconnects, pour until it is killed; pour syncs the file once a second.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from archiver.kafka.group_consumer import CONSUMER_CONFIG
from archiver.kafka.topic_reader import BATCH_BYTES
from g3stream.contract.headers import CHUNK_BYTES
from ingest.publish.in_flight import PRODUCER_CONFIG


def ingest(servers: str, topic: str, port: int, lengths: Sequence[int], times: int) -> None:
    """Read frames of known sizes from the port and produce them, the large ones in the same chunks."""
    producer = Producer({**PRODUCER_CONFIG, "bootstrap.servers": servers})
    # librdkafka takes half a second to get a producer id; our ingest, too, has it before the first frame.
    producer.produce(topic, b"", partition=0)
    producer.flush()
    frames = [bytearray(length) for length in lengths]
    with socket.create_connection(("127.0.0.1", port)) as sender:
        print("ready", flush=True)
        for _ in range(times):
            for frame in frames:
                have = 0
                with memoryview(frame) as view:
                    while have < len(frame):
                        have += sender.recv_into(view[have:])
                part = -(-len(frame) // -(-len(frame) // CHUNK_BYTES))
                for at in range(0, len(frame), part):
                    while True:
                        try:
                            producer.produce(topic, bytes(frame[at : at + part]), partition=0)
                            break
                        except BufferError:
                            producer.poll(0.01)
                producer.poll(0)
    producer.flush()
    print("done", flush=True)


def archiver(servers: str, topic: str, total: int, path: Path) -> None:
    """Write that many bytes of the topic's values into the file, syncing each batch."""
    consumer = Consumer({**CONSUMER_CONFIG, "bootstrap.servers": servers, "group.id": "bare"})
    consumer.get_watermark_offsets(TopicPartition(topic, 0), 10)
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    print("ready", flush=True)
    started = cpu_before = 0.0
    written = 0
    with path.open("wb", buffering=0) as file:
        while written < total:
            values, size = [], 0
            message = consumer.poll(1)
            while message is not None:
                if not started:
                    started, cpu_before = time.perf_counter(), time.process_time()
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
    measured = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_before}
    print(json.dumps(measured), flush=True)
    consumer.close()


def pump(servers: str, topic: str, port: int) -> None:
    """Produce the data of each read, until the sender disconnects."""
    producer = Producer({**PRODUCER_CONFIG, "bootstrap.servers": servers})
    with socket.create_connection(("127.0.0.1", port)) as sender:
        while data := sender.recv(CHUNK_BYTES):
            producer.produce(topic, data, partition=0)
            producer.poll(0)
    producer.flush()


def pour(servers: str, topic: str, path: Path) -> None:
    """Write each record when it arrives."""
    consumer = Consumer({**CONSUMER_CONFIG, "bootstrap.servers": servers, "group.id": "bare"})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    synced = time.monotonic()
    with path.open("wb", buffering=0) as file:
        while True:
            message = consumer.poll(1)
            if message is not None and message.error() is None:
                file.write(message.value() or b"")
            if time.monotonic() > synced + 1:
                os.fdatasync(file.fileno())
                synced = time.monotonic()


if __name__ == "__main__":
    if sys.argv[1] == "pump":
        pump(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "pour":
        pour(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    elif sys.argv[1] == "ingest":
        ingest(sys.argv[2], sys.argv[3], int(sys.argv[4]), list(map(int, sys.argv[5].split(","))), int(sys.argv[6]))
    else:
        archiver(sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
