"""`make demo`: that its proof is one, that a newcomer gets what the demo promises, and that Ctrl-C ends it all."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from testbed.child_process import free_port
from testbed.demo.comparison import FrameId, RecordedFrame, Sent, compare, mismatched_checksums
from tests.support.processes import Program, eventually, get

_COMMAND = [sys.executable, "-m", "testbed.demo"]


@pytest.mark.slow
def test_the_demo_records_all_that_was_sent_and_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with subprocess.Popen([*_COMMAND, "--directory", directory], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        first = demo.stdout.readline()
        page = re.search(r"watch it on the page: http://127\.0\.0\.1:(\d+)/$", first)
        assert page, first
        assert get(int(page[1]), "/")[0] == 200  # before there is a Kafka
        output = first + demo.stdout.read()
    print(output)  # shown if this test fails
    assert demo.returncode == 0

    # It shows every kind of thing that happens in a night, on each stream.
    for stream in ("crate1slot2", "crate1slot3"):
        assert len(re.findall(f" s  {stream}: START$", output, re.MULTILINE)) >= 2
        assert len(re.findall(f" s  {stream}: END$", output, re.MULTILINE)) >= 2
        assert f"{stream}: idle" in output
        for why in ("time", "gap", "end"):
            assert re.search(rf"{stream}: finished \S+_\d{{3}}: {why}, \d+ frames$", output, re.MULTILINE)
        assert len(re.findall(f"{stream}: connected", output)) == 2
    assert "crate1slot2: no connection: the sender closed it" in output
    assert "crate1slot3: no connection: nothing came for 4 s" in output

    # Then the files, and the figures.
    files = sorted((directory / "recorded").glob("[0-9]*/*/*.g3"))
    assert files
    for file in files:
        assert re.search(rf"── {file.name} .* MB .* frames, \w+$", output, re.MULTILINE)
    figures = re.search(r"(\d+) frames sent, (\d+) recorded: they agree", output)
    assert figures
    assert int(figures[1]) == int(figures[2]) > 300

    # The commands that it proposes to look at a file do that.
    proposed = re.search(r"^  file=.*\n(?:  .*\n)+", output, re.MULTILINE)
    assert proposed
    looked = subprocess.run(["/bin/sh", "-c", proposed[0]], capture_output=True, text=True, check=True)
    assert "\nObservation 0\nWiring 1\nScan 2\nScan 3\n" in looked.stdout

    # As does the one for the page, which needs no Kafka.
    page = re.search(r"^  \S+/archiver (web .*)\n  http://127\.0\.0\.1:8780(/night/\S+)$", output, re.MULTILINE)
    assert page
    port = free_port()
    web = Program("archiver", [*page[1].split(), "--http", str(port)], f"127.0.0.1:{free_port()}")
    try:
        web.await_line("the page is at")
        night = get(port, page[2])[1]
        for file in files:
            assert file.name in night
        eventually(lambda: "This is what was known at" in get(port, page[2])[1], "it says that it isn't live")
        assert "Waiting for Kafka" in get(port, "/")[1]
    finally:
        web.kill()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "to_the_group"), [("starting Kafka", False), ("starting Kafka", True), ("receiving frames", False)]
)
def test_ctrl_c_leaves_no_process(moment: str, to_the_group: bool, tmp_path: Path) -> None:
    command = [*_COMMAND, "--directory", str(tmp_path / "demo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as demo:
        assert demo.stdout is not None
        while moment not in (line := demo.stdout.readline()):
            assert line, f"it ended before {moment!r}"
        started = []
        for child in psutil.Process(demo.pid).children(recursive=True):
            with suppress(ProcessLookupError):  # some live for a moment only
                started.append(os.pidfd_open(child.pid))
        try:
            (os.killpg if to_the_group else os.kill)(demo.pid, signal.SIGINT)
            assert demo.wait(10) == 130
            for process in started:
                assert select.select([process], [], [], 5)[0], "a process is left"
        finally:
            demo.kill()
            for process in started:
                os.close(process)
    left = [it.info for it in psutil.process_iter(["pid", "cmdline"]) if str(tmp_path) in str(it.info["cmdline"])]
    assert left == []


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    done = subprocess.run([*_COMMAND, "--directory", tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"error: {tmp_path} isn't empty\n")
    assert (tmp_path / "mine").exists()


def test_what_no_demo_has_made_is_left_alone(tmp_path: Path) -> None:
    mine, earlier = tmp_path / "demo" / "mine", tmp_path / "demo" / "logs"
    for directory in (mine, earlier):
        directory.mkdir(parents=True)
    done = subprocess.run(_COMMAND, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: demo/mine isn't a demo's: move it, or use --directory\n")
    assert mine.exists()
    assert earlier.exists()


_SENT = Sent.from_answers(
    [
        {"command": "start", "session": 7, "first": 0, "last": 1, "frames": 2},
        {"command": "frames", "session": 7, "first": 2, "last": 4, "frames": 3},
        {"command": "alive", "session": None, "first": None, "last": None, "frames": 0},
        {"command": "end", "session": 7, "first": 5, "last": 5, "frames": 1},
    ]
)


def recorded(scans: Iterable[int], metadata: Iterable[int], session: int = 7) -> list[RecordedFrame]:
    """Frames as they would be read from files."""
    return [RecordedFrame(scan, FrameId(session, n)) for scan, ns in ((True, scans), (False, metadata)) for n in ns]


def test_the_proof_allows_only_metadata_to_be_repeated() -> None:
    verdict = compare(_SENT, recorded([2, 3, 4], [0, 1, 0, 0, 5]))
    assert (verdict.sent, verdict.recorded, verdict.repeated) == (6, 6, 2)
    assert verdict.agrees
    assert verdict.differences() == []


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        (recorded([2, 4], [0, 1, 5]), "1 lost: 7/3"),
        (recorded([2, 3, 4], [0, 5]), "1 lost: 7/1"),
        (recorded([2, 3, 3, 4], [0, 1, 5]), "1 recorded twice: 7/3"),
        (recorded([2, 3, 4, 6], [0, 1, 5]), "1 recorded, but never sent: 7/6"),
        (recorded([2, 3, 4], [0, 1, 5]) + recorded([2], [], session=8), "1 recorded, but never sent: 8/2"),
        (
            [*recorded([2, 3, 4], [0, 1, 5]), RecordedFrame(True, None)],
            "1 recorded, but never sent: without a number",
        ),
    ],
)
def test_the_proof_notices_what_is_lost_doubled_or_foreign(frames: list[RecordedFrame], complaint: str) -> None:
    verdict = compare(_SENT, frames)
    assert not verdict.agrees
    assert verdict.differences() == [complaint]


def test_nothing_recorded_is_everything_lost() -> None:
    assert compare(_SENT, []).differences() == ["6 lost: 7/0, 7/1, 7/2, 7/3, 7/4, …"]


def test_a_file_that_differs_from_its_sum_or_has_none_is_named(tmp_path: Path) -> None:
    for name in ("good.g3", "changed.g3", "forgotten.g3"):
        (tmp_path / name).write_text(name)
    summed = subprocess.run(["sha256sum", "good.g3", "changed.g3"], cwd=tmp_path, capture_output=True, check=True)  # noqa: S607  # coreutils, from PATH
    (tmp_path / "SHA256SUMS").write_bytes(summed.stdout + b"0" * 64 + b"  gone.g3\n")
    (tmp_path / "changed.g3").write_text("else")
    assert mismatched_checksums(tmp_path) == ["changed.g3", "forgotten.g3", "gone.g3"]
