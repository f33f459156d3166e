"""Wherever the topic was cut, and whatever is selected: a rebuilt file equals the recorded one, or isn't made.

`ArchiveWithEvents` is a live archive with the events of a real one; the pure rebuilding is given its log, or what
retention has left of that.
"""

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Message as KafkaMessage
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.core.catalog import events_for_replay
from archiver.core.checkpoint import Checkpoint, FramePlace, RecordId
from archiver.core.events import FileFinished
from archiver.core.paths import NameFormat
from archiver.core.segmentation import CloseReason, Settings
from archiver.core.segmenter import Carry, Decision
from archiver.kafka.topic_reader import record_headers
from archiver.replay.plan import ArchivePosition, Overrides, Selection, TopicRange, topic_ranges
from archiver.replay.rebuilder import Rebuilder
from archiver.replay.rebuilt import FileContent, RebuildTarget, RebuiltFile
from archiver.segments.carry import load_carry
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record, first_complete
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.archiver.core.test_segmentation_properties import (
    FORWARD,
    NOON,
    SETTINGS,
    STREAM,
    MemoryArchive,
    archived,
    quick,
    wild_logs,
)
from tests.unit.g3stream.contract.test_sequence import A, Killed, Message, killed_ingests

LOGS = wild_logs().flatmap(killed_ingests)
FORWARD_LOGS = wild_logs(steps=FORWARD).flatmap(killed_ingests)
AS_RECORDED = Overrides()


class ArchiveWithEvents(MemoryArchive):
    """An archive in memory that also has the events of its files, in order."""

    def __init__(self, log: Sequence[Message], chosen: Settings) -> None:
        super().__init__()
        self.events: list[FileFinished] = []
        self._ids: list[RecordId] = []
        self._brought: dict[bytes, tuple[int, int]] = {}  # by value: its type, and the offset of its record
        for at, message in enumerate(log):
            self.take(message, at, chosen)

    def record(self, record: Record, chosen: Settings) -> None:
        opened, before = self.open, self.state
        if why := self.segmenter.decide(record, chosen).close:
            self.finish(why)
            assert opened
            assert before.acquisition
            self._tell(why, record, before.acquisition.id, before.acquisition.start_s, before.acquisition.settings)
        super().record(record, chosen)

    def write(self, decision: Decision) -> None:
        super().write(decision)
        if decision.opens:
            self._ids = []
        if decision.writes:
            record = decision.record
            self._ids.append(_id(record))
            assert record.headers.type is not None
            self._brought[b"".join(record.value)] = record.headers.type, record.offset

    def _tell(self, why: CloseReason, closing: Record, acquisition_id: str, start: int, chosen: Settings) -> None:
        file = self.files[-1]
        data = file.bytes
        event = FileFinished(
            group="g",
            stream=STREAM,
            path=file.path,
            number=len(self.files),
            id=acquisition_id,
            start=start,
            suffix=self.state.names.number,
            settings=chosen,
            why=why,
            frames=len(file.frames),
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            carry=tuple(self._brought[value][0] for value in file.head),
            first=self._ids[0],
            last=self._ids[-1],
            closing=_id(closing),
            offset=self.seen.safe_offset(closing.offset),
            checkpoint=Checkpoint(
                self.state,
                self.seen.epochs(),
                len(self.files),
                self.segmenter.places(),
            ),
            host="here",
        )
        self.events.append(event)

    @property
    def open_first(self) -> tuple[str, int] | None:
        """The first record of the open file, if there is one."""
        return (self._ids[0].epoch, self._ids[0].seq) if self.open else None

    def acquisitions(self) -> list[list[FileFinished]]:
        """Those that have ended, with their files."""
        found: list[list[FileFinished]] = [[]]
        for event in self.events:
            found[-1].append(event)
            if event.why is not CloseReason.TIME:
                found.append([])
        return found[:-1]


def _id(record: Record) -> RecordId:
    headers = record.headers
    return RecordId(record.offset, headers.epoch, headers.seq, record.time_ms, headers.kind)


class MemoryContent(FileContent):
    def __init__(self) -> None:
        super().__init__()
        self.data = bytearray()

    def write(self, parts: Sequence[bytes]) -> None:
        super().write(parts)
        for part in parts:
            self.data += part


class MemoryTarget(RebuildTarget):
    """disk: finished content by path, of files that match their events. changed: paths of others. left_out: why."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[str] = []
        self.disk: dict[str, bytes] = {}
        self.changed: list[str] = []

    def begin(self, path: str, first_ms: int) -> FileContent:
        del path, first_ms
        return MemoryContent()

    def finish(self, file: RebuiltFile) -> None:
        assert isinstance(file.content, MemoryContent)
        data = bytes(file.content.data)
        if file.event and file.event.sha256 != hashlib.sha256(data).hexdigest():
            self.changed.append(file.path)
        else:
            assert file.path not in self.disk
            self.disk[file.path] = data


def available(ranges: Sequence[TopicRange], cut: int) -> list[TopicRange]:
    """Those of a topic that begins at the offset `cut` now."""
    return [it if it.after and it.after.offset >= cut else TopicRange(None, it.through) for it in ranges]


def rebuild(
    log: Sequence[Message],
    events: Sequence[FileFinished],
    wanted: Selection,
    newest: Settings,
    cut: int = 0,
    told_until: int = 0,
    choice: Overrides = AS_RECORDED,
    open_first: tuple[str, int] | None = None,
) -> MemoryTarget:
    """Rebuild from the log from the offset `cut` on."""
    target = MemoryTarget()

    def fetch(offset: int) -> tuple[bytes, ...]:
        return first_complete((headers, value) for headers, _, value in (log[offset:] if offset >= cut else ()))

    def load(places: Mapping[int, FramePlace]) -> Carry:
        return load_carry(places, Location(Path("/nowhere")), fetch)

    for topic_range in available(topic_ranges(events, wanted), cut):
        if wanted.paths:
            wanted = Selection(paths=wanted.paths - target.disk.keys() | {"another"})
        rebuilding = Rebuilder(
            STREAM,
            topic_range,
            events,
            replace(wanted, overrides=choice),
            target,
            load,
            ArchivePosition(told_until, newest, open_first, is_known=told_until > 0),
            is_truncated=cut > 0,
        )
        begin = topic_range.after.offset if topic_range.after else cut
        waiting = deque(
            KafkaMessage("t", 0, at, None, value, [*headers.to_kafka()], None, (1, time))
            for at, (headers, time, value) in enumerate(log[begin:], begin)
        )
        while waiting and not rebuilding.done:
            message = waiting.popleft()
            headers = record_headers(message)
            rebuilding.feed(headers, message.timestamp()[1], message.value() or b"", message.offset() or 0)
            rebuilding.feed_run(waiting, message, headers)
        rebuilding.finish()
        target.left_out += [file.missing for file in rebuilding.not_rebuilt]
    return target


def ways(archive: ArchiveWithEvents, chosen: Settings) -> list[tuple[list[FileFinished], Settings, Overrides]]:
    """Ways to the same files: with the events; without; by flags with the same settings."""
    same = Overrides(chosen.time_per_file_ms, chosen.gap_ms, chosen.name_format, chosen.carry)
    return [(archive.events, chosen, Overrides()), ([], chosen, Overrides()), (archive.events, Settings(), same)]


def whole(archive: ArchiveWithEvents, cut: int) -> set[str]:
    """The files of which the log still has all, from the record that ended the one before, and what heads them."""
    found = set()
    for before, event in zip([None, *archive.events], archive.events, strict=False):
        begin = before.offset if before else 0
        carry = before.checkpoint.carry if before else {}
        if begin >= cut and all(carry[code].offset >= cut for code in event.carry):
            found.add(event.path)
    return found


@quick
@given(LOGS, SETTINGS)
def test_all_of_a_log(killed: Killed, chosen: Settings) -> None:
    archive = ArchiveWithEvents(killed.log, chosen)
    for events, newest, choice in ways(archive, chosen):
        target = rebuild(killed.log, events, Selection(), newest, choice=choice)
        assert target.disk == archive.disk
        assert target.changed == []


@quick
@given(LOGS, SETTINGS, st.data())
def test_what_retention_has_left_of_it(killed: Killed, chosen: Settings, data: st.DataObject) -> None:
    archive = ArchiveWithEvents(killed.log, chosen)
    cut = data.draw(st.integers(0, len(killed.log)), label="cut at")
    target = rebuild(
        killed.log, archive.events, Selection(), chosen, cut, len(killed.log), open_first=archive.open_first
    )
    assert target.disk.items() <= archive.disk.items()
    assert whole(archive, cut) <= target.disk.keys()


@quick
@given(LOGS, SETTINGS, st.data())
def test_only_some_files(killed: Killed, chosen: Settings, data: st.DataObject) -> None:
    archive = ArchiveWithEvents(killed.log, chosen)
    cut = data.draw(st.integers(0, len(killed.log)), label="cut at")
    only = frozenset(data.draw(st.sets(st.sampled_from(sorted(archive.disk)))) if archive.disk else [])
    target = rebuild(
        killed.log, archive.events, Selection(paths=only), chosen, cut, len(killed.log), open_first=archive.open_first
    )
    if only:
        assert target.disk.items() <= {path: archive.disk[path] for path in only}.items()
        assert whole(archive, cut) & only <= target.disk.keys()


@quick
@given(FORWARD_LOGS, SETTINGS, st.data())
def test_a_span_of_time(killed: Killed, chosen: Settings, data: st.DataObject) -> None:
    """Whole acquisitions; with or without events, or only with the events of that time."""
    archive = ArchiveWithEvents(killed.log, chosen)
    times = sorted({message.time for message in killed.log}) or [0]
    since, until = sorted(data.draw(st.tuples(*[st.sampled_from(times)] * 2), label="span"))
    expected = {
        event.path
        for files in archive.acquisitions()
        if files[-1].last.time >= since and files[0].first.time <= until
        for event in files
    }
    # Without an end of its acquisition in the log, a file that was cut by time is listed, too.
    open_files = [event for event in archive.events if not any(event in files for files in archive.acquisitions())]
    if open_files and archive.open:
        last = archive.open.frames[-1][0]
        if last >= since and open_files[0].first.time <= until:
            expected |= {event.path for event in open_files}
    for events, newest, choice in ways(archive, chosen):
        for known in (
            events,
            [event for event in events_for_replay(events, since) if isinstance(event, FileFinished)],
        ):
            target = rebuild(killed.log, known, Selection(since, until), newest, choice=choice)
            assert target.disk == {path: archive.disk[path] for path in expected}
            assert target.changed == []


@settings(quick, max_examples=200)
@given(LOGS, st.lists(SETTINGS, min_size=2, max_size=3), st.data())
def test_settings_that_changed(killed: Killed, choices: list[Settings], data: st.DataObject) -> None:
    """As when an archiver is restarted with others: what was recorded with each is rebuilt with the same."""
    log = killed.log
    changes = data.draw(st.lists(st.integers(0, len(log)), min_size=1, max_size=len(choices) - 1), label="changed at")
    archive = ArchiveWithEvents([], choices[0])
    for at, message in enumerate(log):
        archive.take(message, at, choices[sum(at >= change for change in changes)])
    newest = archive.open.settings if archive.open else choices[len(changes)]  # as its commit says
    target = rebuild(log, archive.events, Selection(), newest, told_until=len(log), open_first=archive.open_first)
    assert target.disk == archive.disk
    assert target.changed == []


CHOICES = st.builds(
    Overrides,
    st.sampled_from([None, 1, 5_000, 60_000]),
    st.sampled_from([None, 0, 1_000, 60_000]),
    st.sampled_from([None, *NameFormat]),
    st.sampled_from([None, (), (FRAME_TYPES["Observation"],)]),
)


@settings(quick, max_examples=200)
@given(LOGS, SETTINGS, CHOICES)
def test_what_is_wanted_otherwise_is_as_if_recorded_so(killed: Killed, chosen: Settings, choice: Overrides) -> None:
    if not choice.any_given:
        return
    archive, other = ArchiveWithEvents(killed.log, chosen), archived(killed.log, choice.apply_to(chosen))
    target = rebuild(
        *(killed.log, archive.events, Selection(), chosen, 0, len(killed.log), choice), open_first=archive.open_first
    )
    assert target.disk == other.disk


OBSERVATION, SCAN = FRAME_TYPES["Observation"], FRAME_TYPES["Scan"]
BY_SESSION = Settings(name_format=NameFormat.SESSION)
S = NOON // 1000


def messages(*records: Kind | tuple[int, int, int]) -> list[Message]:
    """A record each second: facts, and frames, of which it says type, session and frame_num."""
    labels = [
        RecordHeaders(it, A, seq) if isinstance(it, Kind) else RecordHeaders(Kind.FRAME, A, seq, it[0], None, *it[1:])
        for seq, it in enumerate(records)
    ]
    return [Message(headers, NOON + 1000 * n, b"%d;" % n) for n, headers in enumerate(labels)]


def test_with_another_gap_no_frame_is_left_out_that_is_in_a_file_by_date() -> None:
    """It comes again within a file, after a silence: without what follows that in the archive's own file."""
    log = messages((OBSERVATION, S, 0), (SCAN, S, 1), (OBSERVATION, S, 0), (SCAN, S, 2), Kind.END)
    chosen = Settings(carry=())
    archive = ArchiveWithEvents(log, chosen)
    target = rebuild(log, archive.events, Selection(), chosen, choice=Overrides(gap_ms=500))
    assert sorted(target.disk.values()) == [b"0;", b"1;", b"2;", b"3;"]


SENT_AGAIN = messages(
    *(Kind.START, (OBSERVATION, S, 0), (SCAN, S, 1), Kind.END, Kind.LOST),
    *(Kind.CONNECTED, (OBSERVATION, S, 0), Kind.LOST, Kind.CONNECTED, (OBSERVATION, S, 0)),
    *(Kind.START, (OBSERVATION, S + 3, 0), (SCAN, S + 3, 1), Kind.END),
)


@pytest.mark.parametrize("cut", range(len(SENT_AGAIN)))
def test_what_is_sent_again_at_the_beginning_of_what_retention_has_left_is_no_file(cut: int) -> None:
    archive = ArchiveWithEvents(SENT_AGAIN, BY_SESSION)
    target = rebuild(SENT_AGAIN, archive.events, Selection(), BY_SESSION, cut, len(SENT_AGAIN))
    assert set(target.left_out) <= {"its beginning is no longer in the topic"}


@pytest.mark.parametrize("after", [[], [(SCAN, S, 2)], [(OBSERVATION, S + 3, 0)]])
def test_what_was_left_out_with_settings_that_no_file_has_is_no_file(after: list[tuple[int, int, int]]) -> None:
    """By date; then by session, and only what is sent again comes; by date again, with an open file or without."""
    log = messages(
        (OBSERVATION, S, 0), (SCAN, S, 1), Kind.LOST, Kind.CONNECTED, (OBSERVATION, S, 0), Kind.LOST, *after
    )
    archive = ArchiveWithEvents([], Settings())
    for at, message in enumerate(log):
        archive.take(message, at, BY_SESSION if 3 <= at < 6 else Settings())
    target = rebuild(
        *(log, archive.events, Selection(), Settings()), told_until=len(log), open_first=archive.open_first
    )
    assert target.disk == archive.disk
    assert target.left_out == []
