"""Frames taken as a run have the same result as frames taken one by one, whatever comes between them."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from archiver.core.segmentation import Settings
from archiver.kafka.topic_reader import record_headers
from g3stream.contract.headers import Kind, PublishedHeaders, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.archiver.core.test_segmentation_properties import NOON, SETTINGS, MemoryArchive, json, quick
from tests.unit.g3stream.contract.test_sequence import Message as SequenceMessage

SCAN = FRAME_TYPES["Scan"]
A, B = "a" * 16, "b" * 16
CHOSEN = Settings()


@dataclass(frozen=True)
class Next:
    """What the sender sends next."""

    epoch: str
    seq: int
    num: int
    time: int = NOON
    type: int = SCAN
    id: str = "x1"
    session: int = 1_546_344_000

    @property
    def headers(self) -> RecordHeaders:
        return RecordHeaders(Kind.FRAME, self.epoch, self.seq, self.type, self.id, self.session, self.num)

    def after(self, milliseconds: int = 0) -> "Next":
        return replace(self, seq=self.seq + 1, num=self.num + 1, time=self.time + milliseconds)


def message(
    headers: RecordHeaders, time: int, offset: int, order: Callable[[PublishedHeaders], PublishedHeaders] = list
) -> Message:
    value = b"%d %s;" % (offset, headers.kind.encode())
    raw: list[tuple[str, str | bytes | None]] = [*order(headers.to_kafka())]
    return Message("g3.frames.x1", 0, offset, None, value, raw, None, (1, time))


CHANGES: dict[str, Callable[[Next], Next]] = {
    "a seq is missing": lambda now: replace(now, seq=now.seq + 1),
    "a num is missing": lambda now: replace(now, num=now.num + 3),
    "num goes back": lambda now: replace(now, num=now.num - 5),
    "num stays": lambda now: replace(now, num=now.num - 1),
    "a new session": lambda now: replace(now, session=now.session + 1),
    "an older session": lambda now: replace(now, session=now.session - 1),
    "another type": lambda now: replace(now, type=SCAN if now.type != SCAN else FRAME_TYPES["Wiring"]),
    "a carried type": lambda now: replace(now, type=FRAME_TYPES["Observation"]),
    "a type that is left out": lambda now: replace(now, type=FRAME_TYPES["PipelineInfo"]),
    "another id": lambda now: replace(now, id="y2" if now.id != "y2" else "x1"),
    "another ingest's": lambda now: replace(now, epoch=A if now.epoch == B else B),
    "an epoch begins": lambda now: replace(now, epoch=A if now.epoch == B else B, seq=0),
    "time passes": lambda now: replace(now, time=now.time + 9_000),
    "a gap": lambda now: replace(now, time=now.time + 70_000),
    "the clock goes back": lambda now: replace(now, time=now.time - 20_000),
    "much time passes": lambda now: replace(now, time=now.time + 3_600_000),
}


def _fact(kind: Kind, now: Next) -> RecordHeaders:
    return RecordHeaders(kind, now.epoch, now.seq)


AGAIN = "the last three again"
ORDERS: dict[str, Callable[[PublishedHeaders], PublishedHeaders]] = {
    "other order": lambda raw: raw[::-1],
    "an unknown header": lambda raw: [*raw, ("seq2", b"1")],
    "seq twice": lambda raw: [*raw, ("seq", b"0")],
}
ONCE: dict[str, Callable[[Next], RecordHeaders]] = {
    **{kind: partial(_fact, kind) for kind in Kind if kind != Kind.FRAME},
    "no num": lambda now: now.headers._replace(num=None),
    "no session": lambda now: now.headers._replace(session=None),
    "no id": lambda now: now.headers._replace(id=None),
    "why": lambda now: now.headers._replace(why="one knows not"),
    "a first chunk": lambda now: now.headers._replace(chunk=(1, 2)),
    "a last chunk": lambda now: now.headers._replace(chunk=(2, 2)),
}


def log_of(happenings: Sequence[int | str], seq: int) -> list[Message]:
    """Numbers: so many frames in a row; between them, something else."""
    now = Next(A, seq, 0)
    log: list[Message] = []
    for what in happenings:
        order: Callable[[PublishedHeaders], PublishedHeaders] = list
        headers = None
        if isinstance(what, int):
            for _ in range(what):
                log.append(message(now.headers, now.time, len(log)))
                now = now.after(200)
            continue
        if what in CHANGES:
            now = CHANGES[what](now)
            continue
        if what == AGAIN:
            log += [message(record_headers(m), m.timestamp()[1], len(log) + n) for n, m in enumerate(log[-3:])]
            continue
        if what in ORDERS:
            order = ORDERS[what]
        else:
            headers = ONCE[what](now)
        log.append(message(headers or now.headers, now.time, len(log), order))
        now = now.after()
    return log


class RunningArchive(MemoryArchive):
    """Takes waiting messages as a recording does: as a run, where there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[int] = []
        self.last: tuple[Message, RecordHeaders] | None = None  # if a whole record, and the last one processed

    def take_all(self, waiting: deque[Message], chosen: Settings) -> None:
        while waiting:
            if self.last and not self.seen.has_incomplete and (run := self.segmenter.take_run(waiting, *self.last)):
                assert self.open
                self.runs.append(len(run.values))
                self.open.frames += zip(run.times, run.values, strict=True)
                self.seen.advance(run.headers.epoch, run.headers.seq)
                self.last = run.last, run.headers
                continue
            first = waiting.popleft()
            self.last = None
            record = self.seen.assemble(
                record_headers(first), first.timestamp()[1], first.value() or b"", first.offset() or 0
            )
            if not record:
                continue
            self.record(record, chosen)
            if record.headers.chunk == (1, 1):
                self.last = first, record.headers


def assert_the_same(log: Sequence[Message], chosen: Settings, batches: Sequence[int]) -> None:
    alone = MemoryArchive()
    for each in log:
        parsed = SequenceMessage(record_headers(each), each.timestamp()[1], each.value() or b"")
        alone.take(parsed, each.offset() or 0, chosen)
    running = RunningArchive()
    rest = list(log)
    for size in [*batches, len(log)]:
        running.take_all(deque(rest[:size]), chosen)
        rest = rest[size:]
    assert running.all_files() == alone.all_files()
    assert json(running.state) == json(alone.state)
    assert running.segmenter.carried() == alone.segmenter.carried()  # with their places
    assert running.seen.epochs() == alone.seen.epochs()
    assert running.seen.losses == alone.seen.losses
    assert (running.seen.duplicates, running.seen.interleaved_producers) == (
        alone.seen.duplicates,
        alone.seen.interleaved_producers,
    )


HAPPENINGS = [*CHANGES, *ONCE, AGAIN, *ORDERS]


@pytest.mark.parametrize("what", HAPPENINGS)
def test_a_run_comes_to_the_same_as_frame_by_frame_whatever_happens(what: str) -> None:
    chosen = Settings(time_per_file_ms=60_000, carry=(FRAME_TYPES["Observation"], FRAME_TYPES["Wiring"]))
    for seq in (0, 7):
        assert_the_same(log_of([4, what, 4, what, 2, what, 1, 3], seq), chosen, [5])


@pytest.mark.parametrize(
    "happenings",
    [
        (2, "a carried type", 4, "another type", "time passes", 2),  # the next file begins with the last carried one
        (2, "a type that is left out", "num stays", 4, "another type", 3),
    ],
)
def test_frames_that_do_more_than_continue_are_no_run(happenings: Sequence[int | str]) -> None:
    assert_the_same(log_of(happenings, 0), Settings(time_per_file_ms=5_000), [])


@quick
@given(
    st.lists(st.one_of(st.integers(1, 6), st.sampled_from(HAPPENINGS)), max_size=30),
    st.sampled_from([0, 7]),
    SETTINGS,
    st.lists(st.integers(1, 40), max_size=10),
)
def test_a_run_comes_to_the_same_as_frame_by_frame(
    happenings: list[int | str], seq: int, chosen: Settings, batches: list[int]
) -> None:
    assert_the_same(log_of(happenings, seq), chosen, batches)


def in_a_row(count: int) -> list[Message]:
    return [message(Next(A, n, n).headers, NOON + 200 * n, n) for n in range(count)]


def test_frames_in_a_row_are_one_run() -> None:
    archive = RunningArchive()
    archive.take_all(deque(in_a_row(20)), CHOSEN)
    assert archive.runs == [19]


def test_a_run_ends_with_its_file() -> None:
    archive = RunningArchive()
    archive.take_all(deque(in_a_row(20)), Settings(time_per_file_ms=1_000))
    assert archive.runs == [4, 4, 4, 4]
    assert [len(file.frames) for file in archive.all_files()] == [5, 5, 5, 5]
