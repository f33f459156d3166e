"""Names by session where what decides on them is lost, cut, or claimed by others."""

import json
import time
from functools import partial
from pathlib import Path

import pytest
from spt3g import core

from g3stream.contract.topics import frames_topic
from tests.faults.archiver.test_names_by_session import BY_SESSION, Streamer
from tests.faults.kafka.test_state_lost import forget_group
from tests.support.archives import assert_same_tree, quick_session
from tests.support.processes import RawSender, Recorder, delete_before, eventually, flow, frame, run_archiver, scan


def names(recorder: Recorder, archive: str = "archive") -> list[str]:
    return [file.name for file in recorder.files(archive)]


@pytest.mark.slow
def test_a_stream_of_which_only_what_is_sent_again_comes(recorder: Recorder) -> None:
    """It is committed, and nothing is behind; nor is it missed where retention has left only that of the topic."""
    recorder.create_topic()
    streamer = Streamer()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver(*BY_SESSION)
        with sender.accept() as connection:
            connection.sendall(streamer.start() + streamer.data(5) + streamer.end())
            archiver.await_line(r"finished .*_000.* \(end\)")
        cut = len(recorder.records())
        for _ in range(3):
            with sender.accept() as connection:
                connection.sendall(streamer.again())
        sender.accept().close()
        eventually(lambda: recorder.committed() == len(recorder.records()) >= cut + 3 * 4, "all committed")
        group = ("--group", f"{recorder.stream}.archive")
        status = partial(run_archiver, recorder.servers, "status", "--json", *group, "--stream", recorder.stream)

        def is_recorded() -> bool:
            stream = json.loads(status().stdout.splitlines()[0])
            return (stream["lag"], stream["file"]) == (0, None)

        eventually(is_recorded, "nothing behind, no file open")
        delete_before(recorder.servers, frames_topic(recorder.stream), cut)
        following = streamer.another()
        with sender.accept() as connection:
            connection.sendall(streamer.again() + following.start() + following.data(5) + following.end())
            archiver.await_line(rf"finished .*{following.session}_000.* \(end\)")
        with sender.accept() as connection:
            connection.sendall(following.again())
        sender.accept().close()
        eventually(lambda: recorder.committed() >= cut + 3 * 4 + 18, "all committed")
        assert archiver.stop() == 0
    assert names(recorder) == [f"{streamer.session}_000.g3", f"{following.session}_000.g3"]
    verified = recorder.command("verify", "--against-topic")
    assert verified.returncode == 0
    assert "10 frames sent again" in verified.stdout
    into = recorder.directory / "rebuilt"
    replayed = recorder.command("replay", into=into)
    assert replayed.returncode == 0
    assert "left out" not in replayed.stdout + replayed.stderr
    assert [file.name for file in sorted(into.glob("[0-9]*/*/*.g3"))] == [f"{following.session}_000.g3"]


@pytest.mark.slow
@pytest.mark.parametrize("foreign", [False, True], ids=["alone", "beside a foreign file"])
def test_a_session_goes_on_counting_though_the_commits_are_lost(
    recorder: Recorder, tmp_path: Path, foreign: bool
) -> None:
    """From the event of its last file; where somebody else has a name that it was to have, it takes the next."""
    quick = quick_session(tmp_path)
    recorder.create_topic()
    streamer = Streamer()
    with RawSender() as sender:
        recorder.ingest(sender.port)
        archiver = recorder.archiver(*BY_SESSION, *quick)
        with sender.accept() as connection:
            connection.sendall(streamer.start() + streamer.data(5) + flow(1) + streamer.data(5))
            archiver.await_line("opened .*_001")
            if foreign:
                (recorder.files()[0].parent / f"{streamer.session}_001.g3").write_bytes(b"not ours")
            eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
            archiver.kill()
            forget_group(recorder)
            archiver = recorder.archiver(*BY_SESSION, *quick)
            archiver.await_line("no state is committed; continuing after its last file")
            connection.sendall(streamer.data(5))
        with sender.accept() as connection:
            connection.sendall(streamer.again() + streamer.data(5) + streamer.end())
            archiver.await_line(r"finished .* \(end\)")
        with sender.accept() as connection:
            connection.sendall(streamer.again())
        sender.accept().close()
        eventually(lambda: recorder.committed() == len(recorder.records()), "all committed")
        assert archiver.stop() == 0
    assert names(recorder) == [f"{streamer.session}_{n:03d}.g3" for n in range(4 if foreign else 3)]
    into = recorder.directory / "rebuilt"
    assert recorder.command("replay", into=into).returncode == 0
    rebuilt = {str(path.relative_to(into)): path.read_bytes() for path in into.glob("[0-9]*/*/*.g3")}
    ours = {name: data for name, data in recorder.tree().items() if name.endswith(".g3") and data != b"not ours"}
    assert_same_tree(rebuilt, ours)
    verified = recorder.command("verify", "--against-topic")
    assert verified.returncode == int(foreign)
    assert verified.stdout.rstrip().endswith(": 1 unknown" if foreign else "nothing is wrong")


def test_two_crates_that_say_they_are_the_same(recorder: Recorder) -> None:
    """One sostream_id, and one session: neither's frames are lost, and the log reports it."""
    session = int(time.time()) - 5
    streams = [recorder.stream, f"{recorder.stream[-8:]}-b"]
    for stream in streams:
        recorder.create_topic(stream)
    archiver = recorder.archiver(*BY_SESSION, "--stream", streams[1])

    def said(num: int, crate: int) -> bytes:
        return scan(num, session_id=session, sostream_id="crate1", crate=crate)

    def observation(crate: int) -> bytes:
        ours = {"session_id": session, "frame_num": 0, "sostream_id": "crate1", "crate": crate}
        return frame(core.G3FrameType.Observation, **ours)

    with RawSender() as one, RawSender() as other:
        recorder.ingest(one.port)
        spool = ("--spool-dir", str(recorder.directory / "other"), "--spool-size", "1GiB")
        address = ("--address", "127.0.0.1", "--port", str(other.port))
        recorder.start("ingest", "--stream", streams[1], *spool, *address)
        with one.accept() as first, other.accept() as second:
            for crate, connection in enumerate((first, second)):
                connection.sendall(flow(1) + observation(crate) + said(1, crate))
            archiver.await_line("opened", count=2)
            for crate, connection in enumerate((first, second)):
                connection.sendall(said(2, crate) + flow(1) + said(3, crate))
            archiver.await_line(r"finished .* \(start\)", count=2)
            archiver.await_line("is another file's name already")
            for connection in (first, second):
                connection.sendall(flow(2))
            archiver.await_line(r"finished .* \(end\)", count=2)
    assert archiver.stop() == 0
    assert names(recorder) == [f"{session}_{n:03d}.g3" for n in range(4)]
    frames = [found for file in recorder.files() for found in core.G3File(str(file))]
    scans = [(found["frame_num"], found["crate"]) for found in frames if found.type == core.G3FrameType.Scan]
    assert sorted(scans) == [(num, crate) for num in (1, 2, 3) for crate in (0, 1)]
    both = ("--stream", streams[1])
    verified = recorder.command("verify", "--against-topic", *both)
    assert verified.returncode == 0
    into = recorder.directory / "rebuilt"
    assert recorder.command("replay", *both, into=into).returncode == 0
    rebuilt = {str(path.relative_to(into)): path.read_bytes() for path in into.glob("[0-9]*/*/*.g3")}
    assert_same_tree(rebuilt, {name: data for name, data in recorder.tree().items() if name.endswith(".g3")})
