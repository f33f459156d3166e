"""Looks at topics of a real Kafka, by a decoder of the test's own: which frames it is given, and what keeps going."""

import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from confluent_kafka import Producer

from archiver.quicklook.decoder_process import DecoderProcess
from archiver.quicklook.looker import Looker
from archiver.quicklook.state import State
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.topics import frames_topic
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.host.environment import now_ms
from tests.support.processes import Recorder, eventually

EPOCH = secrets.token_hex(8)
POISON = b"poison"
PROGRAM = f"""\
import os, sys
sys.path[:0] = [{str(Path(__file__).parents[3])!r}]
from archiver.quicklook.so3g_decoder.look import numbers
from archiver.quicklook.so3g_decoder.samples import join
from archiver.quicklook.so3g_decoder.wire import read_message, write_message
from tests.unit.archiver.quicklook.known import scans, white

requests, answers = sys.stdin.buffer, sys.stdout.buffer
write_message(answers, {{}})
while (request := read_message(requests)) is not None:
    frames = request[1]
    if {POISON!r} in frames:
        os._exit(3)
    fields, parts = numbers(join(scans(white(3, 100)), 10))
    counted = {{"undecodable": len(frames), "undecodable_why": ",".join(str(len(it)) for it in frames)}}
    write_message(answers, {{**fields, **counted}}, parts)
"""


class Topic:
    """A stream's topic."""

    def __init__(self, recorder: Recorder, stream: str) -> None:
        self.stream = stream
        recorder.create_topic(stream)
        self._producer = Producer({"bootstrap.servers": recorder.servers})
        self._seq = 0

    def publish(self, *chunks: bytes, ago_s: float = 0.0, kind: str = "Scan") -> None:
        """Publish a frame in these chunks, as received so long ago."""
        for k, value in enumerate(chunks, 1):
            headers = RecordHeaders(Kind.FRAME, EPOCH, self._seq, FRAME_TYPES[kind], chunk=(k, len(chunks)))
            received_ms = now_ms() - round(1000 * ago_s)
            topic = frames_topic(self.stream)
            self._producer.produce(topic, value, headers=[*headers.to_text()], partition=0, timestamp=received_ms)
        assert self._producer.flush(30) == 0
        self._seq += 1


@contextmanager
def looking(recorder: Recorder, *streams: str) -> Iterator[Callable[[], State]]:
    """Context in which these streams are looked at, 10 s each time; gives the function that returns the state."""
    program = recorder.directory / "decoder.py"
    program.write_text(PROGRAM)
    decoder = DecoderProcess(sys.executable, clock=time.monotonic, now_ms=now_ms, program=program)
    config = {"bootstrap.servers": recorder.servers}
    how = {"seconds": 10.0, "every_s": 0.1, "max_bytes": 10_000}
    looker = Looker(config, "none", streams, decoder, str, **how)  # type: ignore[arg-type]  # numbers, all of them
    looker.start()
    try:
        yield looker.state
    finally:
        looker.close(30)


def sizes(state: State, stream: str) -> str:
    """Return the sizes of the frames that the decoder was given for the last look; empty if there was none."""
    found = state.streams.get(stream)
    return (found.look.numbers.undecodable_why or "") if found and found.look else ""


def is_look_until(state: Callable[[], State], stream: str, size: int) -> bool:
    """Return whether the last look was at frames the last of which has this size."""
    return sizes(state(), stream).split(",")[-1] == str(size)


def error(state: State, stream: str) -> str:
    """Return why there is no newer look; empty if there is no reason."""
    found = state.streams.get(stream)
    return (found.error or "") if found else ""


def test_the_decoder_is_given_the_scan_frames_of_the_last_seconds_whole_and_the_newest_that_fit(
    recorder: Recorder,
) -> None:
    topic = Topic(recorder, recorder.stream)
    topic.publish(b"x" * 1, ago_s=60)
    topic.publish(b"x" * 2, ago_s=8)
    topic.publish(b"x" * 3, ago_s=8, kind="Wiring")
    topic.publish(b"x" * 400, b"x" * 4, ago_s=1)
    with looking(recorder, recorder.stream) as state:
        eventually(lambda: sizes(state(), recorder.stream) == "2,404", "a look")
        looked_ms = state().streams[recorder.stream].looked_ms
        eventually(lambda: state().streams[recorder.stream].looked_ms != looked_ms, "it is looked at again")
        assert state().streams[recorder.stream].error is None
        for size in (4000, 5001, 4998):
            topic.publish(b"x" * size)
        eventually(lambda: sizes(state(), recorder.stream) == "5001,4998", "the newest that fit")
        look = state().streams[recorder.stream].look
        assert look is not None
        assert look.left_out > 0


def test_a_frame_that_kills_the_decoder_keeps_no_other_stream_from_being_looked_at(recorder: Recorder) -> None:
    bad, good = Topic(recorder, f"{recorder.stream}-bad"), Topic(recorder, recorder.stream)
    bad.publish(POISON)
    good.publish(b"1")
    with looking(recorder, bad.stream, good.stream) as state:
        for count in range(2, 5):
            eventually(lambda: "exit code 3" in error(state(), bad.stream), "the decoder has died")
            good.publish(b"x" * count)
            # The earlier ones may be more than 10 s old by now.
            eventually(partial(is_look_until, state, good.stream, count), "a look at the other")
        assert state().streams[bad.stream].look is None
        assert state().decoder.restarts >= 1
