"""Wrong usage, a world that isn't as it should be, and a hostile network: each is said, and nothing is lost."""

import os
import shutil
import socket
from itertools import pairwise
from pathlib import Path

import pytest

from archiver.__main__ import main as archiver_main
from g3stream.contract.topics import frames_topic, rejected_topic
from ingest.__main__ import main as ingest_main
from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.support.processes import RawSender, Recorder, closed_by_peer, flow, frame_by_hand, scan

GARBAGE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEADER, LENGTH_OF_2_TO_62 = scan(1)[:13], (1 << 62).to_bytes(8, "little")


# --- Wrong usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("ingest", "--stream a/b"),
        ("ingest", "--stream .."),
        ("ingest", "--stream ../../etc"),
        ("ingest", "--stream a|b"),
        ("ingest", "--stream |"),
        ("ingest", "--stream -a"),
        ("ingest", "--stream " + "a" * 65),
        ("ingest", ""),
        ("ingest", "--stream s --no-such-flag"),
        ("ingest", "--stream s --time-out 3"),
        ("ingest", "--stream s --timeout -1"),
        ("ingest", "--stream s --timeout nan"),
        ("ingest", "--stream s --port 0"),
        ("ingest", "--stream s --port 65536"),
        ("ingest", "--stream s --listen 70000"),
        ("ingest", "--stream s --max-frame-size much"),
        ("ingest", "--stream s --spool-size 0"),
        ("ingest", "--stream s --topic-config retention.ms"),
        ("ingest", "--stream s --replication-factor 0"),
        ("ingest", "--stream s --kafka-config no/such/file"),
        ("ingest", "--stream s --log-level loud"),
        ("archiver", ""),
        ("archiver", "--data-dir d --no-such-flag"),
        ("archiver", "--data-dir d --stream a/b"),
        ("archiver", "--data-dir d --stream .."),
        ("archiver", "--data-dir d --stream a|b"),
        ("archiver", "--data-dir d --gap -1"),
        ("archiver", "--data-dir d --gap 0"),
        ("archiver", "--data-dir d --time-per-file -600"),
        ("archiver", "--data-dir d --time-per-file soon"),
        ("archiver", "--data-dir d --name-format iso"),
        ("archiver", "--data-dir d --carry Scam"),
        ("archiver", "--data-dir d --carry Map --carry Wiring --carry Observation --carry Statistics"),
        ("archiver", "--data-dir d --group a|b"),
        ("archiver", "--data-dir d --instance-id ../a"),
    ],
)
def test_wrong_usage_is_told_and_nothing_is_done(
    command: str, wrong: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `wrong`, | is a space inside an argument."""
    monkeypatch.chdir(tmp_path)
    arguments = [argument.replace("|", " ") for argument in wrong.split()]
    with pytest.raises(SystemExit) as ended:
        (ingest_main if command == "ingest" else archiver_main)(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"usage: {command}")
    assert f"\n{command}: error: " in said
    assert not list(tmp_path.iterdir())


def test_a_wrong_variable_is_wrong_usage_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INGEST_STREAM", "../../etc")
    with pytest.raises(SystemExit) as ended:
        ingest_main([])
    assert ended.value.code == 2
    assert "'../../etc' is no stream name" in capsys.readouterr().err


def test_a_stream_name_that_is_empty_not_ascii_or_hides_a_line_break_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a\n", "a\nb", "ä", ""):
        with pytest.raises(SystemExit) as ended:
            ingest_main(["--stream", name])
        assert ended.value.code == 2
        assert "is no stream name" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["ingest", "archiver"])
def test_a_setting_that_kafka_clients_do_not_know_is_told(recorder: Recorder, module: str, tmp_path: Path) -> None:
    (tmp_path / "client.properties").write_text("no.such.setting=1\n")
    config = ("--kafka-config", str(tmp_path / "client.properties"))
    program = recorder.ingest(free_port(), *config) if module == "ingest" else recorder.archiver(*config)
    assert program.exit_code() == 1
    assert "no.such.setting" in program.log


# --- The machine ---------------------------------------------------------------------------------------


def not_writable(directory: Path) -> Path:
    """A directory that can't be made or written, by root neither."""
    if os.geteuid() == 0:
        return Path("/sys/no-such-directory")
    directory.mkdir(mode=0o555)
    return directory


def test_a_missing_data_directory_is_made(recorder: Recorder, tmp_path: Path) -> None:
    data = tmp_path / "not" / "there" / "yet"
    archiver = recorder.start("archiver", "--data-dir", str(data), "--group", recorder.stream)
    archiver.await_line(f"recording to {data}")
    assert data.is_dir()
    assert archiver.stop() == 0


@pytest.mark.parametrize("what", ["a file", "below a file", "not writable"])
def test_a_data_directory_that_cannot_be_used_is_told(recorder: Recorder, tmp_path: Path, what: str) -> None:
    data = tmp_path / "data"
    if what == "not writable":
        data = not_writable(data)
    else:
        data.write_text("this is a file")
        data = data / "below" if what == "below a file" else data
    archiver = recorder.start("archiver", "--data-dir", str(data), "--group", recorder.stream)
    assert archiver.exit_code() == 1
    assert f"the data directory {data} can't be used: " in archiver.log
    assert len(archiver.times_of("ERROR")) == 1
    assert "Traceback" not in archiver.log


@pytest.mark.parametrize("what", ["a file", "not writable"])
def test_a_spool_directory_that_cannot_be_used_is_told(recorder: Recorder, tmp_path: Path, what: str) -> None:
    spool = tmp_path / "elsewhere"
    if what == "a file":
        spool.write_text("this is a file")
    else:
        spool = not_writable(spool)
    ingest = recorder.start("ingest", "--stream", recorder.stream, "--spool-dir", str(spool))
    assert ingest.exit_code() == 1
    assert f"the spool's directory {spool / recorder.stream} can't be used: " in ingest.log
    assert len(ingest.lines) == 1


def test_a_second_ingest_of_the_stream_is_refused(recorder: Recorder) -> None:
    ingest = recorder.ingest(free_port())
    ingest.await_line("still trying")
    second = recorder.ingest(free_port())
    assert second.exit_code() == 1
    assert "another ingest for this stream runs on this host" in second.log
    assert ingest.stop() == 0


def test_a_second_archiver_of_the_instance_id_is_refused(recorder: Recorder) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        archiver.await_line("recording to")
        second = recorder.archiver()
        assert second.exit_code() == 1
        assert "another archiver runs on this host with the instance id" in second.log
        with sender.accept() as connection:
            connection.sendall(scan(0) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    assert [file.read_bytes() for file in recorder.files()] == [scan(0)]


def test_an_archiver_whose_instance_id_another_takes_over_ends_and_the_other_goes_on(recorder: Recorder) -> None:
    # As on another host: another data directory doesn't know the first one's lock. It has its identity: else it is
    # refused once the first has committed.
    recorder.create_topic()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        same = ("--instance-id", "same", "--group", f"{recorder.stream}.shared")
        archiver = recorder.archiver(*same, archive="one")
        archiver.await_line(f"recording {recorder.stream}")
        identity = Path(".archiver/archive.identity")
        (recorder.data("other") / identity).parent.mkdir(parents=True, mode=0o700)
        shutil.copy(recorder.data("one") / identity, recorder.data("other") / identity)
        other = recorder.archiver(*same, archive="other")
        assert archiver.exit_code() == 1
        assert "another archiver with the instance id same has taken over" in archiver.log
        with sender.accept() as connection:
            connection.sendall(scan(0) + flow(2))
            other.await_line(r"finished .* \(end\)")
    assert [file.read_bytes() for file in recorder.files("other")] == [scan(0)]


def test_a_port_that_cannot_be_had_is_told(recorder: Recorder) -> None:
    with RawSender() as taken:
        ingest = recorder.ingest(None, "--listen", f"127.0.0.1:{taken.port}")
        assert ingest.exit_code() == 1
        assert f"can't listen on 127.0.0.1:{taken.port}: Address already in use" in ingest.log


# --- Kafka ---------------------------------------------------------------------------------------------


def test_an_unreachable_broker_is_told_every_few_seconds_and_all_is_recorded_when_it_is_there(
    stream: str, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "kafka")  # which isn't running yet
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, RawSender() as sender:
        ingest, archiver = recorder.ingest(sender.port), recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(b"".join(scan(number) for number in range(100)) + flow(2))
            complaint = f"Kafka at {broker.bootstrap_servers}.*still trying"
            for program in (ingest, archiver):
                program.await_line(complaint, count=2)
                times = program.times_of(complaint)
                assert all(2 < later - sooner < 10 for sooner, later in pairwise(times))
            with broker:
                archiver.await_line(r"finished .* \(end\)")
                [file] = recorder.files()
                assert file.read_bytes() == b"".join(scan(number) for number in range(100))
                assert ingest.stop() == archiver.stop() == 0


def test_a_topic_that_takes_no_records_is_refused_by_its_first_ingest_and_the_others_are_recorded(
    recorder: Recorder,
) -> None:
    compacted = f"{recorder.stream}-two"
    recorder.create_topic()
    recorder.create_topic(compacted, config={"cleanup.policy": "compact"})
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver("--stream", compacted)
        archiver.await_line(f"the topic {frames_topic(compacted)} has cleanup.policy=compact")
        with sender.accept() as connection:
            connection.sendall(scan(0) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    refused = recorder.start("ingest", "--stream", compacted, "--spool-dir", str(recorder.directory / "spool"))
    assert refused.exit_code() == 1
    last = refused.lines[-1][1]
    assert (
        f"the topic {frames_topic(compacted)} has cleanup.policy=compact, so Kafka refuses records without a key"
        in last
    )
    assert f"kafka-configs.sh --bootstrap-server {recorder.servers} --alter" in last
    assert [file.read_bytes() for file in recorder.files()] == [scan(0)]
    assert archiver.stop() == 0


# --- The network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("garbage", "why"),
    [
        (GARBAGE, "no G3 frame"),
        (HEADER + LENGTH_OF_2_TO_62, r"a key's name of 4611686018427387904 bytes"),
        (HEADER + (4).to_bytes(8, "little") + b"data" + LENGTH_OF_2_TO_62, r"a frame of at least \d{19} bytes"),
        (HEADER[:5] + b"\xff" * 4 + HEADER[9:], "it would have -1 keys"),
    ],
    ids=["text", "a name of 2^62", "a value of 2^62", "minus one keys"],
)
def test_after_garbage_the_connection_is_made_anew_and_every_frame_is_there(
    recorder: Recorder, garbage: bytes, why: str
) -> None:
    recorder.create_topic()
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0) + garbage)
            assert closed_by_peer(connection)
        ingest.await_line(f"connection closed: garbage instead of a frame: .*{why}")
        with sender.accept() as connection:
            connection.sendall(scan(1) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
        assert ingest.stop() == 0
    assert [file.read_bytes() for file in recorder.files()] == [scan(0), scan(1)]


def test_a_frame_with_a_wrong_crc_is_kept_aside_and_the_stream_goes_on(recorder: Recorder) -> None:
    recorder.create_topic()
    damaged = bytearray(scan(1))
    damaged[-20] ^= 1
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(scan(0) + damaged + scan(2) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
            ingest.await_line(f"rejected a frame of {len(damaged)} bytes: its CRC is wrong")
    assert [file.read_bytes() for file in recorder.files()] == [scan(0) + scan(2)]
    [(label, _, value)] = recorder.records(rejected_topic(recorder.stream))
    assert value == damaged
    assert label.why == "its CRC is wrong"
    assert "LOST" not in archiver.log


def test_a_stream_id_that_is_no_name_is_not_used(recorder: Recorder, tmp_path: Path) -> None:
    recorder.create_topic()
    hostile = ["../../etc", "..", ".", "/etc", "a/b", "a b", ".archiver", "", "a" * 65, "a\nb", "a\0", "ä", 7]
    frames = [scan(number, sostream_id=said) for number, said in enumerate(hostile)]
    before = sorted(path.name for path in tmp_path.parent.iterdir())
    with RawSender() as sender:
        ingest = recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(b"".join(data + flow(2) for data in frames))
            ingest.await_line("the sostream_id of its frames is no valid stream name; it is ignored")
            archiver.await_line(r"finished .* \(end\)", count=len(frames))
    files = recorder.files()
    assert [file.read_bytes() for file in files] == frames
    assert {file.parent.name for file in files} == {recorder.stream}
    assert sorted(path.name for path in tmp_path.parent.iterdir()) == before
    assert {path.name for path in recorder.data().iterdir()} == {".archiver", *(f.parents[1].name for f in files)}


def test_frames_that_spt3g_cannot_read_inside_are_recorded_as_they_are(recorder: Recorder) -> None:
    recorder.create_topic()
    hostile = [
        frame_by_hand([("sostream_id", b"\xff" * 50)], ord("S")),
        frame_by_hand([("session_id", b""), ("frame_num", b"\x01" * 9)], ord("S")),
    ]
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            connection.sendall(b"".join(hostile) + flow(2))
            archiver.await_line(r"finished .* \(end\)")
    assert [file.read_bytes() for file in recorder.files()] == [b"".join(hostile)]


def test_a_second_sender_is_refused_while_one_is_connected(recorder: Recorder) -> None:
    recorder.create_topic()
    port = free_port()
    ingest = recorder.ingest(None, "--listen", f"127.0.0.1:{port}")
    archiver = recorder.archiver()
    ingest.await_line("waiting for the sender")
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(scan(0))
        ingest.await_line("first frame")
        with socket.create_connection(("127.0.0.1", port)) as second:
            assert closed_by_peer(second)
        ingest.await_line("refused a second client")
        connection.sendall(scan(1) + flow(2))
        archiver.await_line(r"finished .* \(end\)")
    ingest.await_line("connection closed")
    with socket.create_connection(("127.0.0.1", port)) as third:
        third.sendall(scan(2) + flow(2))
        archiver.await_line(r"finished .* \(end\)", count=2)
    assert [file.read_bytes() for file in recorder.files()] == [scan(0) + scan(1), scan(2)]
