"""A sender that dies, is cut off, stalls or sends nonsense: what was good is recorded, once, as it came; no more is.

The frames around each fault are known. What must arrive is computed by `wire_model`, which knows the format and
nothing of ingest.
"""

import random
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from g3stream.contract.topics import rejected_topic
from g3stream.log.flood import MAX_WRITTEN
from tests.support.frames import frame_with
from tests.support.processes import Program, RawSender, Recorder, closed_by_peer, eventually, scan
from tests.support.wire_model import End, read

MIB = 1 << 20
PAUSE = 3
"""After so many s without a byte ingest closes a connection here: more than a busy machine needs to send some."""
LARGE = scan(0, size=8 * MIB)


def anonymous_mib(program: Program) -> int:
    """What it keeps in memory that is backed by no file (its spool is), in MiB."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) >> 10


# -- in the middle of a frame ---------------------------------------------------------------------------------

# Sends what it reads, through the connection that it was given, and lives until it is killed.
_SENDER = """
import socket, sys, time
with socket.socket(fileno=int(sys.argv[1])) as connection:
    connection.sendall(sys.stdin.buffer.read())
    print("sent", flush=True)
    time.sleep(3600)
"""


def killed(connection: socket.socket, data: bytes, sent: Callable[[], None]) -> None:
    """Let a process send this, and kill -9 it."""
    connection.setblocking(True)  # of the socket itself, so the process has it, too
    sender = subprocess.Popen(
        [sys.executable, "-c", _SENDER, str(connection.fileno())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[connection.fileno()],
    )  # fmt: skip
    connection.close()
    assert sender.stdin
    assert sender.stdout
    with sender.stdin, sender.stdout:
        sender.stdin.write(data)
        sender.stdin.close()
        assert sender.stdout.readline() == b"sent\n"
        sent()
        sender.send_signal(signal.SIGKILL)
        sender.wait()


def reset(connection: socket.socket, data: bytes, sent: Callable[[], None]) -> None:
    """Send this, and let the other side see a reset, as from a host that was rebooted."""
    with connection:
        connection.sendall(data)
        sent()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stalled(connection: socket.socket, data: bytes, sent: Callable[[], None]) -> None:
    """Send this, and nothing more."""
    with connection:
        connection.sendall(data)
        sent()
        assert closed_by_peer(connection)


def test_a_sender_that_disconnects_in_the_middle_of_a_frame_costs_that_frame_only(
    recorder: Recorder, dice: random.Random
) -> None:
    recorder.create_topic()
    faults = [
        (killed, "the sender closed it"),
        (reset, "Connection reset by peer"),
        (stalled, f"nothing came for {PAUSE} s"),
    ]
    faults = (2 * faults)[:MAX_WRITTEN]  # later ones would be folded
    recorded = []
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--timeout", str(PAUSE))
        archiver = recorder.archiver()
        memory = []
        for number, (fault, why) in enumerate(faults, 1):
            half = LARGE[: dice.choice([5, 13, 40, dice.randrange(1, MIB), dice.randrange(MIB, len(LARGE) - 1)])]
            good = scan(number, size=dice.choice([100, 100_000]))
            recorded.append(good)

            def sent(number: int = number) -> None:
                """When that has come: a reset would throw away what was not yet read."""
                ingest.await_line("first frame", count=number)
                eventually(lambda: unread(sender.port) == 0, "all of it is read")

            fault(sender.accept(), good + half, sent)
            lost = ingest.await_line("connection closed: (.*); waiting for the next one", count=number)
            assert lost[1] == f"{why}, in the middle of a frame ({len(half)} bytes of it dropped)"
            memory.append(anonymous_mib(ingest))
        with sender.accept() as connection:
            connection.sendall(scan(99))
            recorded.append(scan(99))
            ingest.await_line("first frame", count=len(recorded))
        archiver.await_line(r"finished .* \(disconnected\)", count=len(recorded))
        print(f"RssAnon {memory} MiB")
        assert max(memory) - memory[0] < 60
        assert ingest.stop() == archiver.stop() == 0
    assert [file.read_bytes() for file in recorder.files()] == recorded
    assert "LOST" not in archiver.log


def unread(port: int) -> int:
    """How many bytes wait in this host's sockets of that port, on both sides."""
    waiting = 0
    for _ in range(2):  # once isn't enough: bytes pass from one side to the other while the kernel lists them
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues, *_ = line.split()
            if f"{port:04X}" in (local[-4:], remote[-4:]) and state == "01":  # established
                waiting += sum(int(queue, 16) for queue in queues.split(":"))
    return waiting


def test_the_memory_of_a_large_frame_that_is_never_finished_is_released(recorder: Recorder) -> None:
    """Four times: what the first half took must be there for the next."""
    recorder.create_topic()
    promise = bytearray(scan(0, size=8)[:13]) + struct.pack("<Q", 4) + b"data" + struct.pack("<Q", 200 * MIB)
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        most = []
        for number in range(1, 5):
            with sender.accept() as connection:
                connection.sendall(scan(number) + promise)
                ingest.await_line("first frame", count=number)
                before = anonymous_mib(ingest)
                for _ in range(60):
                    connection.sendall(bytes(MIB))
                eventually(lambda: unread(sender.port) == 0, "all of it is read")
                most.append(anonymous_mib(ingest))
            ingest.await_line(r"in the middle of a frame \(6\d{7} bytes of it dropped\)", count=number)
        archiver.await_line(r"finished .* \(disconnected\)", count=4)
        print(f"RssAnon {most} MiB with 60 MiB of a frame of 200 MiB, {before} MiB before the last")
        assert max(most) < 60 * 2 + 100
        assert before < 100
    assert [file.read_bytes() for file in recorder.files()] == [scan(number) for number in range(1, 5)]


# -- every byte of a frame ------------------------------------------------------------------------------------


class Burst(NamedTuple):
    """What goes over one connection, in one piece, and what must come of it."""

    data: bytes
    good: list[bytes]
    rejected: list[bytes]
    end: End


LIMIT = 16 << 10


def good(number: int) -> bytes:
    return frame_with(sostream_id="", frame_num=number, data="x" * 200)


LAST = good(10**9)


def bursts(positions: range, dice: random.Random) -> list[Burst]:
    """A flipped frame for each of these bytes, each between good ones; what may cost the connection ends it."""
    found, data, number = [], b"", 1000 * positions.start
    for at in positions:
        flipped = bytearray(good(number))
        flipped[at] ^= 1 << dice.randrange(8)
        data += good(number + 1) + flipped + good(number + 2)
        number += 3
        if read(data, LIMIT).end is not End.WHOLE or at == positions[-1]:
            found.append(Burst(data, *read(data, LIMIT)[:3]))
            data = b""
    return found


def send(sender: RawSender, lane: list[Burst]) -> None:
    """Each over a connection of its own, which is closed by ingest if it must be; and one good frame at last."""
    stall = next((burst for burst in lane if burst.end is End.CUT), None)
    for burst in lane:
        with sender.accept() as connection:
            connection.sendall(burst.data)
            if burst.end is End.GARBAGE or burst is stall:
                assert closed_by_peer(connection), burst.end
    with sender.accept() as connection:
        connection.sendall(LAST)


def test_every_byte_of_a_frame_flipped_in_turn(recorder: Recorder, dice: random.Random) -> None:
    """By four ingests, as a closed connection is made again a second later at the earliest.

    A flipped type code can't be known, as the CRC leaves it out; such a frame is recorded as it came. A flipped
    length may swallow the next good frames, until the connection is dropped: for garbage, or when the sender pauses.
    """
    length, lanes = len(good(10_000)), 4
    streams = [f"{recorder.stream}-{lane}" for lane in range(lanes)]
    for stream in streams:
        recorder.create_topic(stream)
    archiver = recorder.archiver(*(word for stream in streams for word in ("--stream", stream)))
    ingests, sent = [], []
    with ExitStack() as stack:
        senders = [stack.enter_context(RawSender()) for _ in streams]
        for lane, (stream, sender) in enumerate(zip(streams, senders, strict=True)):
            options = {
                "--stream": stream,
                "--address": "127.0.0.1",
                "--port": sender.port,
                "--spool-dir": recorder.directory / "spool",
                "--timeout": PAUSE,
                "--max-frame-size": LIMIT,
            }
            ingests.append(recorder.start("ingest", *(str(word) for option in options.items() for word in option)))
            sent.append(bursts(range(lane, length, lanes), dice))
        with ThreadPoolExecutor(lanes) as pool:
            list(pool.map(send, senders, sent))
        for stream, burst_list in zip(streams, sent, strict=True):
            archiver.await_line(rf"finished .*/{stream}/.* \(disconnected\)", count=len(burst_list) + 1)
        for program in (*ingests, archiver):
            assert program.stop() == 0

    everything = recorder.files()
    for stream, burst_list, ingest in zip(streams, sent, ingests, strict=True):
        files = [file.read_bytes() for file in everything if file.parent.name == stream]
        assert files == [*(b"".join(burst.good) for burst in burst_list), LAST]
        rejected = [frame for burst in burst_list for frame in burst.rejected]
        assert [value for _, _, value in recorder.records(rejected_topic(stream))] == rejected
        assert count_reported(ingest, "rejected a frame of") == len(rejected)
        # After the last it was connected once more, or just about to be, when it was stopped.
        assert count_reported(ingest, "connection closed: ") - (len(burst_list) + 1) in (0, 1)
    assert "LOST" not in archiver.log


def count_reported(program: Program, what: str) -> int:
    """How often it reported that, by the lines that it wrote and those that it folded."""
    lines = [line for _, line in program.lines if what in line]
    return sum(int(match[1]) if (match := re.search(r"… (\d+) more like this", line)) else 1 for line in lines)
