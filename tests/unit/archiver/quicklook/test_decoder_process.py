"""The decoder's process: the protocol, and what happens when it dies, hangs, or answers nonsense."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.quicklook.decoder_process import DecoderError, DecoderProcess
from archiver.quicklook.so3g_decoder import wire

JSON = st.dictionaries(
    st.text(max_size=5).filter(lambda it: it != "parts"), st.integers() | st.text(max_size=9) | st.none(), max_size=4
)
PROGRAM = """\
import os, sys, time
sys.path.insert(0, {root!r})
from archiver.quicklook.so3g_decoder.wire import read_message, write_message
requests, answers = sys.stdin.buffer, sys.stdout.buffer
write_message(answers, {{"so3g": "0"}})
while (request := read_message(requests)) is not None:
    fields, parts = request
    match fields.get("do"):
        case "die":
            print("out of ideas", file=sys.stderr, flush=True)
            os._exit(3)
        case "hang":
            time.sleep(3600)
        case "nonsense":
            answers.write(b"what?" * 100)
            answers.flush()
        case _:
            write_message(answers, {{"pid": os.getpid()}}, parts[::-1])
"""


class Clock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@contextmanager
def running(
    directory: Path, clock: Clock, timeout_s: float = 30.0, program: str = PROGRAM
) -> Iterator[DecoderProcess]:
    path = directory / "program.py"
    path.write_text(program.format(root=str(Path(__file__).parents[4])))
    decoder = DecoderProcess(sys.executable, clock=clock, now_ms=lambda: 7, timeout_s=timeout_s, program=path)
    try:
        yield decoder
    finally:
        decoder.close()


@given(fields=JSON, parts=st.lists(st.binary(max_size=50), max_size=4))
def test_a_message_arrives_as_it_was_sent(fields: dict[str, Any], parts: list[bytes]) -> None:
    stream = io.BytesIO()
    wire.write_message(stream, fields, parts)
    wire.write_message(stream, {"next": 1})
    stream.seek(0)
    assert wire.read_message(stream) == (fields, parts)
    assert wire.read_message(stream) == ({"next": 1}, [])
    assert wire.read_message(stream) is None


@given(st.binary(min_size=1, max_size=100))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.read_message(io.BytesIO(data))


@given(cut=st.integers(1, 60))
def test_a_message_that_is_cut_short_is_refused(cut: int) -> None:
    stream = io.BytesIO()
    wire.write_message(stream, {"name": "r0001"}, [b"x" * 40])
    data = stream.getvalue()[:-cut]
    with pytest.raises(wire.WireError):
        wire.read_message(io.BytesIO(data))


def test_it_is_started_once_and_answers(tmp_path: Path) -> None:
    with running(tmp_path, Clock()) as decoder:
        first, parts = decoder.ask({}, [b"a", b"bc"])
        assert parts == [b"bc", b"a"]
        assert decoder.ask({}, [])[0] == first
        assert decoder.status.is_running
        assert (decoder.status.restarts, decoder.status.versions) == (0, "so3g 0")


@pytest.mark.parametrize(
    ("do", "timeout_s", "why"),
    [
        ("die", 30, "it has ended by exit code 3: out of ideas"),
        ("hang", 1, "it didn't answer in 1 s, and was killed"),
        ("nonsense", 30, "it answers otherwise than agreed"),
    ],
)
def test_one_that_fails_is_started_again_after_a_pause(tmp_path: Path, do: str, timeout_s: float, why: str) -> None:
    clock = Clock()
    with running(tmp_path, clock, timeout_s) as decoder:
        before, _ = decoder.ask({}, [])
        with pytest.raises(DecoderError, match=why):
            decoder.ask({"do": do}, [])
        assert not decoder.status.is_running
        assert why in (decoder.status.problem or "")
        assert (decoder.status.since_ms, decoder.pid) == (7, None)
        assert decoder.pause_s() == 1
        with pytest.raises(DecoderError):
            decoder.ask({"do": "die"}, [])
        assert decoder.pause_s() == 2
        clock.now_s += 2
        assert decoder.pause_s() == 0
        after, _ = decoder.ask({}, [])
        assert after != before
        assert (decoder.status.restarts, decoder.status.problem) == (2, None)


def test_one_that_can_not_start_says_why(tmp_path: Path) -> None:
    decoder = DecoderProcess(str(tmp_path / "nowhere"), clock=Clock(), now_ms=lambda: 7)
    with pytest.raises(DecoderError, match="nowhere can't be started"):
        decoder.ask({}, [])
    program = "raise SystemExit('so3g is missing')"
    with (
        running(tmp_path, Clock(), program=program) as ended,
        pytest.raises(DecoderError, match="exit code 1: so3g is missing"),
    ):
        ended.ask({}, [])
