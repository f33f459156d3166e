"""The ingest host's clock is stepped while it receives: nothing is lost, and no name is used twice.

The rules are the design's: a step of more than `gap`, either way, is a gap; an acquisition in a second that is not
later than all before it is numbered after the highest number ever used.
"""

import time
from itertools import count, pairwise
from pathlib import Path

import pytest
from spt3g import core

from archiver.core.paths import NameFormat, file_path
from g3stream.contract.headers import Kind
from tests.support.processes import Program, RawSender, Recorder, eventually, flow, frame, scan

HOUR = 3_600_000
GAP = 10_000


class Host:
    """A host that runs an ingest, and its clock."""

    def __init__(self, recorder: Recorder, port: int) -> None:
        self._file = recorder.directory / "clock"
        self.set(time.time_ns() // 1_000_000)
        self.ingest: Program = recorder.start(
            "stepped_clock", str(self._file), "ingest", "--stream", recorder.stream, "--address", "127.0.0.1",
            "--port", str(port), "--spool-dir", str(recorder.directory / "spool"), "--timeout", "30",
        )  # fmt: skip

    def set(self, now: int) -> None:
        """Let it be so many ms since the epoch there."""
        new = self._file.with_suffix(".new")
        new.write_text(str(now * 1_000_000 - time.time_ns()))
        new.replace(self._file)


@pytest.fixture
def recorder(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Whose programs find `stepped_clock`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "support" / "injection"))
    return recorder


def expected_path(stream: str, start: int, earlier: list[tuple[int, int]]) -> tuple[str, int]:
    """The path and number of the first file of an acquisition, after those of (start, number) in s."""
    if earlier and earlier[-1][0] == start:
        number = earlier[-1][1] + 1
    elif all(start > other for other, _ in earlier):
        number = 0
    else:
        number = max(number for _, number in earlier) + 1
    return file_path(start, stream, number, NameFormat.DATE), number


def test_a_clock_that_is_stepped_back_and_forth_loses_nothing_and_overwrites_nothing(recorder: Recorder) -> None:
    recorder.create_topic()
    numbers = count()
    noon = (time.time_ns() // 1_000_000_000) * 1000 + 50  # early in a second, so that it can be the same twice
    # (what the clock shows when it is stepped, whether that is a new acquisition)
    steps = [
        (noon, True),
        (noon + 4_000, False),  # within the gap: nothing
        (noon + HOUR, True),
        (noon + HOUR - 3_000, False),
        (noon, True),  # the same second as the first acquisition, but not as the last
        (noon + HOUR, True),  # the same hour for the second time
        (noon - HOUR, True),
        (noon - HOUR + 3 * HOUR, True),
        (noon, True),
    ]
    sent: list[list[bytes]] = []  # of each acquisition
    with RawSender() as sender:
        host = Host(recorder, sender.port)
        archiver = recorder.archiver()
        with sender.accept() as connection:
            observation = frame(core.G3FrameType.Observation, observation=7)
            for now, new in steps:
                host.set(now)
                frames = [scan(next(numbers), 100) for _ in range(20)]
                if new:
                    sent.append([])
                if len(sent) == 1 and new:
                    frames.insert(1, observation)
                sent[-1] += frames
                connection.sendall(b"".join(frames))
                total = sum(map(len, sent))
                eventually(lambda: len(received(recorder)) == total, "all that was sent is in Kafka")  # noqa: B023
            connection.sendall(flow(2))
            archiver.await_line(r"finished .* \(end\)")
            archiver.await_line("finished", count=len(sent))
        assert host.ingest.stop() == 0
        assert archiver.stop() == 0
    got = received(recorder)
    assert [value for _, value in got] == [data for frames in sent for data in frames]

    names: list[tuple[int, int]] = []
    tree: dict[str, bytes] = {}
    at = 0
    for frames in sent:
        times = [time for time, _ in got[at : at + len(frames)]]
        assert all(abs(later - sooner) <= GAP for sooner, later in pairwise(times))
        assert not at or abs(times[0] - got[at - 1][0]) > GAP
        path, number = expected_path(recorder.stream, times[0] // 1000, names)
        names.append((times[0] // 1000, number))
        tree[path] = b"".join(frames if not at else [observation, *frames])
        at += len(frames)
    assert len(tree) == len(sent) == 7
    assert {name: data for name, data in recorder.tree().items() if name.endswith(".g3")} == tree
    assert "LOST" not in archiver.log
    assert " is another file's name already" not in archiver.log

    second = recorder.archiver(archive="second")
    second.await_line("finished", count=len(sent))
    assert second.stop() == 0
    assert recorder.tree("second") == recorder.tree()


def test_an_ingest_that_starts_in_the_past_records_into_new_files(recorder: Recorder) -> None:
    """As after a power cut on a host whose clock then begins where it stood, until NTP sets it right."""
    recorder.create_topic()
    now = time.time_ns() // 1_000_000
    with RawSender() as sender:
        archiver = recorder.archiver()
        for at, number in ((now, 0), (now - HOUR, 1), (now, 2)):
            host = Host(recorder, sender.port)
            host.set(at)
            with sender.accept() as connection:
                connection.sendall(scan(number))
                archiver.await_line("opened", count=number + 1)
                host.ingest.kill()
        host = Host(recorder, sender.port)
        archiver.await_line(r"finished .* \(disconnected\)", count=3)
        assert host.ingest.stop() == archiver.stop() == 0
    files = sorted(recorder.files(), key=lambda file: file.read_bytes())
    assert [file.read_bytes() for file in files] == sorted(scan(number) for number in range(3))
    assert "LOST" not in archiver.log


def received(recorder: Recorder) -> list[tuple[int, bytes]]:
    """The frames in the topic: time in ms, bytes."""
    return [(at, value) for headers, at, value in recorder.records() if headers.kind is Kind.FRAME]
