"""The spool is full, or its disk; its files are damaged, or old: what was read is still published."""

import os
import random
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from g3stream.contract.headers import Kind
from testbed.frames import decode_frames
from testbed.kafka.broker import Broker
from tests.support.disk import small_disk
from tests.support.injection.proxy import FarBroker
from tests.support.processes import SECONDS, RawSender, Recorder, bytes_in, eventually, flow, scan


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One that isn't running yet."""
    broker = FarBroker(tmp_path / "kafka")
    yield broker
    broker.stop()


@pytest.fixture
def alone(broker: Broker, stream: str, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder whose broker isn't there until it is started."""
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as started:
        yield started


NO_KAFKA = ("--bootstrap-servers", "127.0.0.1:1")


class Sending(threading.Thread):
    """Sends all of these, as far as they are read."""

    def __init__(self, connection: socket.socket, frames: Sequence[bytes]) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._frames = frames
        self.start()

    def run(self) -> None:
        try:
            for frame in self._frames:
                self._connection.sendall(frame)
        except OSError:
            return  # ingest has gone


def frames_in_topic(recorder: Recorder) -> list[bytes]:
    """Each frame as often as it is there; none of them is chunked."""
    return [value for headers, _, value in recorder.records() if headers.kind is Kind.FRAME]


def spool_of(recorder: Recorder) -> Path:
    return recorder.directory / "spool" / recorder.stream


def spooled_bytes(recorder: Recorder) -> int:
    return bytes_in(spool_of(recorder) / "spool", "*.bundles")


# -- full -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_full_spool_stops_the_reading_until_kafka_takes_records(alone: Recorder, broker: Broker) -> None:
    frames = [scan(number, 5000) for number in range(5000)]
    with RawSender() as sender:
        ingest = alone.ingest(sender.port, "--spool-size", "1MiB")  # the smallest that is taken
        with sender.accept() as connection:
            sending = Sending(connection, frames)
            ingest.await_line("ERROR .*the spool is full; reading stops")
            sending.join(1)
            assert sending.is_alive(), "the sender feels it"
            assert spooled_bytes(alone) < 2 << 20
            broker.start()
            ingest.await_line("the spool has space again")
            sending.join(SECONDS)
            assert not sending.is_alive()
            connection.sendall(flow(2))
            ingest.await_line("END")
        assert ingest.stop() == 0
        ingest.await_line("everything received is published")
        assert frames_in_topic(alone) == frames


def test_a_spool_too_small_is_refused(alone: Recorder) -> None:
    ingest = alone.ingest(1, "--spool-size", "1MB")
    assert ingest.exit_code() == 2, "wrong usage: trying again doesn't help"
    ingest.await_line("--spool-size: must be at least 1MiB")


@pytest.mark.slow
def test_on_a_full_disk_reading_stops_and_goes_on_and_nothing_is_lost_or_doubled(
    alone: Recorder, broker: Broker, tmp_path: Path
) -> None:
    frames = [scan(number, 100_000) for number in range(500)]
    with small_disk(tmp_path / "disk", "24m", in_use=True) as disk, RawSender() as sender:
        other = disk / "other"
        other.write_bytes(bytes(12 << 20))
        ingest = alone.ingest(sender.port, "--spool-dir", str(disk))
        with sender.accept() as connection:
            sending = Sending(connection, frames)
            ingest.await_line("ERROR .*can't be written: .*No space left on device.*; reading stops until it can")
            other.unlink()
            ingest.await_line("the spool can be written again")
            # Now the spool itself fills the disk, and only what Kafka takes makes room.
            ingest.await_line("ERROR .*can't be written", count=2)
            assert sending.is_alive()
            broker.start()
            ingest.await_line("the spool can be written again", count=2)
            sending.join(SECONDS)
            assert not sending.is_alive()
            connection.sendall(flow(2))
            ingest.await_line("END")
        assert ingest.stop() == 0
        ingest.await_line("everything received is published")
        assert frames_in_topic(alone) == frames


def test_killed_and_started_again_on_a_full_disk_it_publishes_what_fills_it(
    recorder: Recorder, tmp_path: Path
) -> None:
    frames = [scan(number, 100_000) for number in range(500)]
    with small_disk(tmp_path / "disk", "16m", in_use=True) as disk, RawSender() as sender:
        there = ("--spool-dir", str(disk))
        ingest = recorder.ingest(sender.port, *there, *NO_KAFKA)
        with sender.accept() as connection:
            Sending(connection, frames)
            ingest.await_line("ERROR .*can't be written")
            ingest.kill()
        # Not a byte is left for a new epoch's first record.
        with (disk / "other").open("wb", buffering=0) as other, pytest.raises(OSError, match="No space"):
            fill(other.fileno())
        ingest = recorder.ingest(sender.port, *there, *NO_KAFKA)
        ingest.await_line("from before wait in the spool")
        ingest.await_line("ERROR .*can't be written")
        ingest.kill()
        ingest = recorder.ingest(sender.port, *there)
        with sender.accept() as connection:
            connection.sendall(scan(1000) + flow(2))
            ingest.await_line("END")
        assert ingest.stop() == 0
        found = frames_in_topic(recorder)
        assert len(found) > 100
        assert found == [*frames[: len(found) - 1], scan(1000)]


def fill(fd: int) -> None:
    while True:
        os.write(fd, bytes(4096))


def test_a_stop_on_a_full_disk_ends_in_seconds_and_says_what_it_could_not_keep(
    alone: Recorder, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", "4m", in_use=True) as disk, RawSender() as sender:
        ingest = alone.ingest(sender.port, "--spool-dir", str(disk))
        with sender.accept() as connection:
            Sending(connection, [scan(number, 100_000) for number in range(100)])
            ingest.await_line("ERROR .*can't be written")
            ingest.send(signal.SIGTERM)
            assert ingest.exit_code(10) == 1
            ingest.await_line("ERROR .*what was read last is lost")


# -- damaged, or old ------------------------------------------------------------------------------------------


def lost_seqs(log: str, epoch: str) -> set[int]:
    """The seqs that the archiver logged as lost."""
    ranges = re.findall(rf"LOST .*: {epoch}:(\d+) to {epoch}:(\d+)", log)
    return {seq for first, last in ranges for seq in range(int(first), int(last) + 1)}


def test_a_damaged_spool_file_is_moved_away_and_what_could_be_read_is_recorded(
    recorder: Recorder, dice: random.Random
) -> None:
    small = ("--spool-size", "16MiB")
    frames = [scan(number, 50_000) for number in range(200)]
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, *small, *NO_KAFKA)
        with sender.accept() as connection:
            connection.sendall(b"".join(frames))
            eventually(lambda: spooled_bytes(recorder) > len(b"".join(frames)), "all frames in the spool")
            ingest.kill()
        files = sorted(spool_of(recorder).glob("spool/*.bundles"))
        middle, last = files[dice.randrange(1, len(files) - 2)], files[-1]
        middle.write_bytes(dice.randbytes(middle.stat().st_size))
        os.truncate(last, dice.randrange(last.stat().st_size - 100))
        recorder.create_topic()
        archiver = recorder.archiver()
        again = recorder.ingest(sender.port, *small)
        with sender.accept() as connection:
            for path in (middle, last):
                again.await_line(rf"ERROR .*/{path.name[:20]}\S* is damaged: \d+ batches of records")
                again.await_line(rf"ERROR .*moved to \S*/damaged/{path.name[:20]}")
            connection.sendall(scan(1000) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
        assert again.stop() == 0
        assert archiver.stop() == 0
        records = recorder.records()
    assert len(list(spool_of(recorder).glob("damaged/*"))) == 2
    recorded = [frame for file in recorder.files() for frame in decode_frames(file.read_bytes())]
    assert recorded[-1] == scan(1000)
    kept = sorted(frames.index(frame) for frame in recorded[:-1])
    assert recorded[:-1] == [frames[number] for number in kept]
    assert 100 < len(set(kept)) == len(kept) < 199
    epoch = records[0][0].epoch
    published = {headers.seq for headers, _, _ in records if headers.epoch == epoch}
    lost = lost_seqs(archiver.log, epoch)
    assert not lost & published
    assert lost | published == set(range(max(lost) + 1)), "each record is there, or reported as lost"
    assert len(lost) >= len(frames) - len(kept)


def test_an_older_copy_of_the_spool_is_reported_and_no_new_frame_is_taken_for_a_duplicate(
    recorder: Recorder,
) -> None:
    copy = recorder.directory / "copy"
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, *NO_KAFKA)
        with sender.accept() as connection:
            connection.sendall(scan(0) + scan(1))
            ingest.await_line("first frame")
            assert ingest.stop() == 0
        shutil.copytree(spool_of(recorder), copy)
        recorder.create_topic()
        archiver = recorder.archiver()
        ingest = recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(2) + scan(3) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            assert "LOST" not in archiver.log
            ingest.kill()
        shutil.rmtree(spool_of(recorder))
        copy.rename(spool_of(recorder))
        ingest = recorder.ingest(sender.port)
        with sender.accept() as connection:
            connection.sendall(scan(4) + scan(5) + flow(2))
            archiver.await_line(r"finished .* \(end\)", count=2)
        assert ingest.stop() == 0
        assert archiver.stop() == 0
        numbers = [headers.num for headers, _, _ in recorder.records() if headers.kind is Kind.FRAME]
        assert numbers == [0, 1, 2, 3, 0, 1, 4, 5], "the copy's records were published again"
    recorded = [frame for file in recorder.files() for frame in decode_frames(file.read_bytes())]
    assert recorded == [scan(number) for number in range(6)]
    archiver.await_line("LOST .*spool had gone back")
