"""Records that are rebuilt in runs come to the same as one by one, wherever the recorded files begin and end."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from confluent_kafka import Message as KafkaMessage
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.core.checkpoint import FramePlace
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings
from archiver.core.segmenter import Carry
from archiver.kafka.topic_reader import record_headers
from archiver.replay.plan import ArchivePosition, Overrides, Selection, topic_ranges
from archiver.replay.rebuilder import Rebuilder
from archiver.replay.rebuilt import RebuiltFile
from archiver.segments.carry import load_carry
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import first_complete
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.archiver.core.test_segmentation_properties import NOON, STREAM, quick
from tests.unit.archiver.replay.test_rebuilder import (
    CHOICES,
    ArchiveWithEvents,
    MemoryContent,
    MemoryTarget,
    available,
)
from tests.unit.g3stream.contract.test_sequence import A, Killed, Message, killed_ingests

SCAN, OBSERVATION, WIRING = FRAME_TYPES["Scan"], FRAME_TYPES["Observation"], FRAME_TYPES["Wiring"]
SETTINGS = st.builds(
    Settings,
    st.sampled_from([1000, 5000, 60_000]),
    st.sampled_from([1000, 10_000]),
    st.sampled_from(NameFormat),
    st.sampled_from([(), (OBSERVATION,), (OBSERVATION, WIRING)]),
)


class Journal(MemoryTarget):
    """Notes all that becomes of the files, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[object, ...]] = []

    def finish(self, file: RebuiltFile) -> None:
        self.lines.append(line(file))

    def drop(self, file: RebuiltFile) -> None:
        self.lines.append(("dropped", file.path))


def line(file: RebuiltFile) -> tuple[object, ...]:
    content = bytes(file.content.data) if isinstance(file.content, MemoryContent) else None
    return file.path, content, file.frames, file.last_ms, file.close_reason, bool(file.event), file.missing


@dataclass
class Case:
    """A replay. cut: the topic's first offset. batch: how many messages are read at a time."""

    log: Sequence[Message]
    events: Sequence[FileFinished] = ()
    position: ArchivePosition = field(default_factory=lambda: ArchivePosition(0, Settings()))
    selection: Selection = field(default_factory=Selection)
    cut: int = 0
    batch: int = 99

    def outcome(self, *, in_runs: bool) -> list[tuple[object, ...]]:
        target = Journal()
        for topic_range in available(topic_ranges(self.events, self.selection), self.cut):
            rebuilder = Rebuilder(
                *(STREAM, topic_range, self.events, self.selection, target, self._load, self.position),
                is_truncated=self.cut > 0,
            )
            begin = topic_range.after.offset if topic_range.after else self.cut
            self._feed(rebuilder, begin, in_runs=in_runs)
            rebuilder.finish()
            target.lines += [(rebuilder.lost_records, rebuilder.done), *map(line, rebuilder.not_rebuilt)]
            if rebuilder.file:
                target.lines.append(line(rebuilder.file))
        return target.lines

    def _feed(self, rebuilder: Rebuilder, begin: int, *, in_runs: bool) -> None:
        messages = [
            KafkaMessage("t", 0, at, None, value, [*headers.to_kafka()], None, (1, time))
            for at, (headers, time, value) in enumerate(self.log[begin:], begin)
        ]
        while messages and not rebuilder.done:
            waiting, messages = deque(messages[: self.batch]), messages[self.batch :]
            while waiting and not rebuilder.done:
                message = waiting.popleft()
                headers = record_headers(message)
                rebuilder.feed(headers, message.timestamp()[1], message.value() or b"", message.offset() or 0)
                if in_runs:
                    rebuilder.feed_run(waiting, message, headers)

    def _load(self, places: Mapping[int, FramePlace]) -> Carry:
        def fetch(offset: int) -> tuple[bytes, ...]:
            return first_complete((it.headers, it.value) for it in (self.log[offset:] if offset >= self.cut else ()))

        return load_carry(places, Location(Path("/nowhere")), fetch)


HAPPENINGS = ["frames"] * 6 + ["observation", "wiring", "observation again", "wiring again", "pipeline info"]
HAPPENINGS += ["start", "end", "lost", "connected", "quiet", "a gap", "a pause", "time", "session", "missing"]
PASSES = {"a gap": 11_000, "a pause": 1500, "time": 9000}


@st.composite
def logs(draw: st.DrawFn) -> list[Message]:
    log: list[Message] = []
    now, num, session = NOON, 0, NOON // 1000

    def add(kind: Kind, code: int | None = None, at: tuple[int, int] = (0, 0)) -> None:
        headers = RecordHeaders(kind, A, len(log))
        if code is not None:
            headers = RecordHeaders(kind, A, len(log), code, "x1", *at)
        log.append(Message(headers, now, b"%d %s;" % (len(log), kind.encode())))

    latest = {OBSERVATION: (session, 0), WIRING: (session, 0)}
    for what in draw(st.lists(st.sampled_from(HAPPENINGS), max_size=25)):
        code = {"observation": OBSERVATION, "wiring": WIRING, "pipeline": FRAME_TYPES["PipelineInfo"]}.get(
            what.split()[0], SCAN
        )
        if what in PASSES:
            now += PASSES[what]
        elif what == "session":
            session, num = session + 1, 0
        elif what == "missing":
            num += 2
        elif what.endswith("again"):
            add(Kind.FRAME, code, latest[code])
        elif what in ("start", "end", "lost", "connected", "quiet"):
            add(Kind(what))
        else:
            for _ in range(draw(st.integers(1, 5)) if what == "frames" else 1):
                add(Kind.FRAME, code, (session, num))
                latest[code] = session, num
                num += 1
                now += draw(st.sampled_from([200, 200, 1000]))
    return log


@st.composite
def cases(draw: st.DrawFn) -> Case:
    killed: Killed = draw(logs().flatmap(killed_ingests))
    log, now = list(killed.log), NOON
    if draw(st.booleans()):  # Kafka's times: a repeated record has another one than the first
        for at, message in enumerate(log):
            now += draw(st.sampled_from([100, 100, 100, 300, 9500]))
            log[at] = message._replace(time=now)
    archive = ArchiveWithEvents(log, chosen := draw(SETTINGS))
    times = sorted({message.time for message in log}) or [0]
    since, until = sorted(draw(st.tuples(*[st.sampled_from(times)] * 2)))
    one = Selection(paths=frozenset([*list(archive.disk)[:1], "another"]))
    selection = draw(
        st.sampled_from([Selection(), Selection(since), Selection(since, until), Selection(None, until), one])
    )
    selection = replace(selection, overrides=draw(st.one_of(st.just(Overrides()), CHOICES)))
    newest = archive.open.settings if archive.open else chosen
    known = ArchivePosition(len(log), newest, archive.open_first, is_known=True)
    return Case(
        log,
        archive.events if draw(st.booleans()) else (),
        draw(st.sampled_from([known, ArchivePosition(0, newest)])),
        selection,
        draw(st.one_of(st.just(0), st.integers(0, len(log)))),
        draw(st.sampled_from([1000, 7, 3])),
    )


@quick
@given(cases())
def test_it_comes_to_the_same_as_record_by_record(case: Case) -> None:
    assert case.outcome(in_runs=True) == case.outcome(in_runs=False)


def frame(seq: int, after_ms: int, num: int | None = None, code: int = SCAN) -> Message:
    headers = RecordHeaders(Kind.FRAME, A, seq, code, "x1", 1, seq if num is None else num)
    return Message(headers, NOON + after_ms, b"%d;" % seq)


def with_kafkas_times() -> Case:
    """An ingest is killed, and publishes two records again, 9 s later."""
    return Case([frame(0, 0), frame(1, 100), frame(0, 9000), frame(1, 9100), frame(2, 18_000), frame(3, 18_100)])


def without_events() -> Case:
    """The commit shows the open file; within that, a frame is sent again after a pause."""
    scans = [frame(seq, 800 * seq) for seq in range(1, 9)]
    log = [frame(0, 0, 0, OBSERVATION), *scans, frame(9, 9000, 0, OBSERVATION), frame(10, 9100, 9)]
    newest = Settings(time_per_file_ms=5000, carry=())
    return Case(
        log,
        (),
        ArchivePosition(len(log), newest, (A, 7), is_known=True),
        Selection(overrides=Overrides(60_000, 1000, None, None)),
    )


@pytest.mark.parametrize("case", [with_kafkas_times(), without_events()], ids=["Kafka's times", "without events"])
def test_a_run_begins_at_no_repeated_record_and_ends_before_the_open_file(case: Case) -> None:
    assert case.outcome(in_runs=True) == case.outcome(in_runs=False)
