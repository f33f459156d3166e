"""What the documentation of the recorder that this one replaces promises: a test for each sentence."""

import re
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from spt3g import core

from archiver.__main__ import make_parser as archiver_parser
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import parse_header
from ingest.__main__ import make_parser as ingest_parser
from testbed.child_process import free_port
from testbed.frames import decode_frames
from testbed.smurf.simulator import Simulator
from tests.support.injection.stepped_clock import HostClock
from tests.support.processes import RawSender, Recorder, closed_by_peer, flow, frame, numbers, scan

NAME = re.compile(r"(\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)_(\d{3})\.g3")


def start_of(file: Path) -> int:
    """The acquisition's start that a file's name says, s since the epoch."""
    match = NAME.fullmatch(file.name)
    assert match, file.name
    return int(datetime.strptime(match[1], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC).timestamp())


def suffix_of(file: Path) -> int:
    """The number at the end of a file's name."""
    match = NAME.fullmatch(file.name)
    assert match, file.name
    return int(match[2])


def frames_in(file: Path) -> list[Any]:
    """A file's frames, as spt3g reads them."""
    return list(core.G3File(str(file)))


def scans_in(file: Path) -> list[int]:
    """The frame_num of a file's Scan frames, as spt3g reads them."""
    return [found["frame_num"] for found in frames_in(file) if found.type == core.G3FrameType.Scan]


def test_it_is_safe_to_start_before_a_connection_exists(recorder: Recorder) -> None:
    port = free_port()
    archiver = recorder.archiver()
    ingest = recorder.ingest(port)
    ingest.await_line("no connection to .*still trying")
    with Simulator(port) as simulator:
        simulator.command("wait")
        ingest.await_line("connected to")
        simulator.command("start")
        sent = simulator.command("frames 5")
        simulator.command("end")
        archiver.await_line(r"finished .* \(end\)")
    [file] = recorder.files()
    assert scans_in(file) == list(range(sent["first"], sent["last"] + 1))


def test_files_lie_under_the_ctime_digits_and_the_stream_id_that_the_frames_say(recorder: Recorder) -> None:
    recorder.create_topic()
    with Simulator(stream_id="crate1slot2") as simulator:
        recorder.ingest(simulator.port)
        archiver = recorder.archiver()
        simulator.command("wait")
        before = int(time.time())
        simulator.command("start")
        simulator.command("frames 2")
        simulator.command("end")
        archiver.await_line(r"finished .* \(end\)")
    [file] = recorder.files()
    start = start_of(file)
    assert before <= start <= time.time()
    assert file.parent == recorder.data() / str(start)[:5] / "crate1slot2"
    assert suffix_of(file) == 0


def test_the_stream_id_is_the_arguments_if_the_frames_say_none(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    [file] = recorder.files()
    assert file.parent == recorder.data() / str(start_of(file))[:5] / recorder.stream


def test_the_files_of_an_acquisition_are_numbered_and_none_is_longer_than_time_per_file(recorder: Recorder) -> None:
    recorder.create_topic()
    with Simulator(stream_id="crate1slot2") as simulator:
        recorder.ingest(simulator.port)
        archiver = recorder.archiver("--time-per-file", "1")
        simulator.command("wait")
        simulator.command("start")
        simulator.command("frames 110 --rate 50")
        simulator.command("end")
        archiver.await_line(r"finished .* \(end\)")
    files = recorder.files()
    assert len(files) > 2
    assert [suffix_of(file) for file in files] == list(range(len(files)))
    assert len({start_of(file) for file in files}) == 1
    assert [number for file in files for number in scans_in(file)] == list(range(2, 112))
    received = {label.num: time for label, time, _ in recorder.records() if label.kind is Kind.FRAME}
    for file, following in pairwise(files):
        own, first = scans_in(file), scans_in(following)[0]
        begun = received[0 if suffix_of(file) == 0 else own[0]]
        assert received[own[-1]] - begun < 1000 <= received[first] - begun


def test_ten_minutes_ten_seconds_and_five_seconds_hold_unless_told_otherwise() -> None:
    archiver = archiver_parser().parse_args(["--data-dir", "data"])
    assert (archiver.time_per_file, archiver.gap, archiver.name_format) == (600, 10, "date")
    assert ingest_parser().parse_args(["--stream", "crate1slot2"]).timeout == 5


def test_start_closes_and_opens_and_end_closes(recorder: Recorder, tmp_path: Path) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(flow(1) + scan(0) + scan(1))
            archiver.await_line("opened")
            # Each closes at once, not when the next frame comes.
            connection.sendall(flow(1))
            archiver.await_line(r"finished .* \(start\): 2 frames")
            connection.sendall(scan(2))
            archiver.await_line("opened", count=2)
            connection.sendall(flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
            connection.sendall(scan(3) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames", count=2)
    files = recorder.files()
    assert [numbers(file.read_bytes(), tmp_path / "one.g3") for file in files] == [[0, 1], [2], [3]]


def test_frames_without_start_are_recorded_as_if_it_had_come(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0, sostream_id="crate1slot2") + scan(1) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    [file] = recorder.files()
    assert (suffix_of(file), file.parent.name) == (0, "crate1slot2")
    assert scans_in(file) == [0, 1]


def test_ten_seconds_without_frames_close_the_file_and_resumed_frames_begin_one(recorder: Recorder) -> None:
    recorder.create_topic()
    with Simulator(alive=True) as simulator:
        ingest = recorder.ingest(simulator.port, "--timeout", "5")
        archiver = recorder.archiver("--gap", "10")
        simulator.command("wait")
        simulator.command("frames 3")
        archiver.await_line(r"finished .* \(gap\): 3 frames")
        [first] = recorder.files()  # it has its name already
        [finished] = archiver.times_of("finished")
        last_frame = max(received for label, received, _ in recorder.records() if label.kind is Kind.FRAME)
        assert 10 < finished - last_frame / 1000 < 13
        simulator.command("frames 2")
        simulator.command("end --bare")
        archiver.await_line(r"finished .* \(end\): 2 frames")
        assert not ingest.times_of("connection closed")  # ALIVE kept it: it was the frames that were missing
    assert [scans_in(file) for file in recorder.files()] == [[0, 1, 2], [3, 4]]
    assert recorder.files()[0] == first


def test_a_reader_timeout_closes_the_file_and_the_connection_is_made_anew(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port, "--timeout", "3")  # the test must answer the next connection sooner
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0))
            assert closed_by_peer(connection)
        ingest.await_line("connection closed: nothing came for 3 s")
        archiver.await_line(r"finished .* \(disconnected\): 1 frames")
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            archiver.await_line(r"finished .* \(end\): 1 frames")
    assert [scans_in(file) for file in recorder.files()] == [[0], [1]]


def test_a_sender_that_goes_away_closes_the_file_and_is_recorded_again_when_it_is_back(recorder: Recorder) -> None:
    recorder.create_topic()
    with Simulator() as simulator:
        ingest = recorder.ingest(simulator.port)
        archiver = recorder.archiver()
        simulator.command("wait")
        simulator.command("frames 3")
        assert simulator.command("drop")["drained"]
        ingest.await_line("connection closed: the sender closed it")
        archiver.await_line(r"finished .* \(disconnected\): 3 frames")
        simulator.command("wait")
        simulator.command("frames 2")
        simulator.command("end --bare")
        archiver.await_line(r"finished .* \(end\): 2 frames")
    assert [scans_in(file) for file in recorder.files()] == [[0, 1, 2], [3, 4]]


def test_the_directory_stays_the_acquisitions_over_a_change_of_the_date_and_of_the_digits(recorder: Recorder) -> None:
    # Real time can't be had: the records come straight into the topic, with times around a change of the five digits.
    recorder.create_topic(config={"retention.ms": "-1"})
    digits_change = 1_546_400_000_000  # 2019-01-02 03:33:20
    midnight = 1_546_387_200_000  # of 2019-01-02
    producer = Producer({"bootstrap.servers": recorder.servers})
    records = [(scan(0), midnight - 1_000), (scan(1), midnight + 1_000), (flow(2), midnight + 2_000)]
    records += [(scan(2), digits_change - 1_000), (scan(3), digits_change + 1_000), (flow(2), digits_change + 2_000)]
    for seq, (value, at) in enumerate(records):
        kind = Kind.END if value == flow(2) else Kind.FRAME
        label = RecordHeaders(kind, "0123456789abcdef", seq, type=parse_header(value, 0)[2])
        producer.produce(frames_topic(recorder.stream), value, headers=list(label.to_kafka()), timestamp=at)
    assert producer.flush(10) == 0
    archiver = recorder.archiver("--time-per-file", "2")
    archiver.await_line(r"finished .* \(end\)", count=2)
    files = [str(file.relative_to(recorder.data())) for file in recorder.files()]
    assert files == [
        f"15463/{recorder.stream}/2019-01-01-23-59-59_000.g3",
        f"15463/{recorder.stream}/2019-01-01-23-59-59_001.g3",
        f"15463/{recorder.stream}/2019-01-02-03-33-19_000.g3",
        f"15463/{recorder.stream}/2019-01-02-03-33-19_001.g3",
    ]


def test_newer_recorders_names_are_the_integer_seconds(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver("--name-format", "ctime")
        with sender.accept() as connection:
            before = int(time.time())
            connection.sendall(scan(0) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    [file] = recorder.files()
    start, _, suffix = file.stem.partition("_")
    assert (file.parents[1].name, suffix) == (start[:5], "000")
    assert before <= int(start) <= time.time()


def test_the_last_observation_frame_heads_every_following_file(recorder: Recorder) -> None:
    recorder.create_topic()
    first, second = (
        frame(core.G3FrameType.Observation, stream_placement="start", frame_num=number) for number in (0, 1000)
    )
    clock = HostClock(recorder.directory)
    with RawSender() as sender:
        recorder.ingest(sender.port, clock=clock)
        archiver = recorder.archiver("--time-per-file", "20")
        with sender.accept() as connection:
            connection.sendall(flow(1) + first + scan(1))
            number, sent = 1, 2
            for observation in (b"", b"", second, b"", b""):
                archiver.await_line("opened", count=number)
                recorder.await_frames(sent)
                clock.step(21)  # the next frame belongs into the next file
                number, sent = number + 1, sent + 1 + bool(observation)
                connection.sendall(scan(number) + observation)
            archiver.await_line("opened", count=number)
            connection.sendall(flow(1) + scan(number + 1) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    files = [decode_frames(file.read_bytes()) for file in recorder.files()]
    assert len(files) == 7
    came, last = [], None
    for content in files:
        assert content[0] in (first, second)
        if content[0] == last:
            del content[0]  # repeated; new frames are distinguished by their numbers
        for data in content:
            came.append(data)
            last = data if data in (first, second) else last
    assert came.count(second) == 1
    came.remove(second)
    assert came == [first, *(scan(n) for n in range(1, number + 2))]
    assert last == second
