"""A topic compared with its files: frames that names by session leave out are in no file, and not reported lost."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings
from archiver.verify.checks import Counts, Fault, Finding
from archiver.verify.topic_comparison import Comparison, RecordedStream
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES
from tests.support.frames import frame
from tests.unit.archiver.core.test_segmentation_properties import NOON, SETTINGS, STREAM, quick, recorded, wild_logs
from tests.unit.archiver.replay.test_rebuilder import ArchiveWithEvents
from tests.unit.g3stream.contract.test_sequence import A, Killed, Message, killed_ingests


def ended(log: list[Message]) -> list[Message]:
    """With values that are frames, as a file's carry is counted; and an end, so that all files are finished."""
    framed = [message._replace(value=frame([(b"n", message.value)])) for message in log]
    return [*framed, Message(RecordHeaders(Kind.END, A, len(log)), framed[-1].time if framed else 0, b"")]


LOGS = wild_logs().map(ended).flatmap(killed_ingests)


def compared(log: Sequence[Message], archive: ArchiveWithEvents, cut: int = 0) -> tuple[list[Finding], Counts]:
    """The log from the offset `cut` on, with what the archive finished."""
    with tempfile.TemporaryDirectory() as directory:
        for path, data in archive.disk.items():
            (Path(directory) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(directory) / path).write_bytes(data)
        known = RecordedStream(STREAM, archive.events, archive.disk.keys(), (), len(log), None, None)
        comparison = Comparison(Location(Path(directory)), known, cut, len(log), counts := Counts())
        for offset, (headers, time, value) in enumerate(log[cut:], cut):
            comparison.add_record(headers, time, value, offset)
        comparison.close()
        return comparison.findings, counts


@settings(quick, max_examples=100)
@given(LOGS, SETTINGS)
def test_every_frame_of_a_topic_is_in_a_file_or_was_sent_again(killed: Killed, chosen: Settings) -> None:
    archive = ArchiveWithEvents(killed.log, chosen)
    found = compared(killed.log, archive)
    in_files = sum(len(file.frames) for file in archive.files)
    assert found == ([], Counts(same=in_files, sent_again=len(recorded(killed.records)) - in_files))


@settings(quick, max_examples=100)
@given(LOGS, SETTINGS, st.data())
def test_of_a_topic_that_begins_between_two_files(killed: Killed, chosen: Settings, data: st.DataObject) -> None:
    archive = ArchiveWithEvents(killed.log, chosen)
    cut = data.draw(st.sampled_from([0, *(event.offset for event in archive.events)]), label="cut at")
    assert compared(killed.log, archive, cut)[0] == []


@settings(quick, max_examples=100)
@given(LOGS, st.lists(SETTINGS, min_size=2, max_size=3), st.data())
def test_with_settings_that_changed(killed: Killed, choices: list[Settings], data: st.DataObject) -> None:
    archive = ArchiveWithEvents([], choices[0])
    log = killed.log
    changes = data.draw(st.lists(st.integers(0, len(log)), min_size=1, max_size=len(choices) - 1), label="changed at")
    used = []
    for at, message in enumerate(log):
        used.append(choices[sum(at >= change for change in changes)])
        archive.take(message, at, used[-1])
    findings, counts = compared(log, archive)
    in_files = sum(len(file.frames) for file in archive.files)
    assert counts.same == in_files
    assert all(finding.fault is Fault.NOT_IN_FILE for finding in findings)
    formats = {chosen.name_format for chosen in used}
    if NameFormat.SESSION not in formats or formats == {NameFormat.SESSION}:
        assert findings == []


S = NOON // 1000
OBSERVATION, SCAN = FRAME_TYPES["Observation"], FRAME_TYPES["Scan"]


def test_of_a_topic_that_was_created_again() -> None:
    """Offsets begin again; what is sent again before its first file is recorded in a file of the topic before."""
    first, again, second = (OBSERVATION, S, 0), (OBSERVATION, S, 0), (OBSERVATION, S + 3, 0)
    records: list[Kind | tuple[int, int, int]] = [first, (SCAN, S, 1), Kind.END]
    records += [Kind.CONNECTED, Kind.LOST] * 3 + [Kind.CONNECTED, again, Kind.LOST, Kind.START]
    records += [second, (SCAN, S + 3, 1), Kind.END]
    log = [
        Message(RecordHeaders(it, A, seq), NOON, b"")
        if isinstance(it, Kind)
        else Message(RecordHeaders(Kind.FRAME, A, seq, it[0], None, *it[1:]), NOON, frame([(b"n", b"%d" % seq)]))
        for seq, it in enumerate(records)
    ]
    archive = ArchiveWithEvents([], Settings())
    before, recreated = log[:3], log[3:]
    for topic in (before, recreated):
        for at, message in enumerate(topic):
            archive.take(message, at, Settings(name_format=NameFormat.SESSION))
    assert len(archive.events) == 2
    assert compared(recreated, archive) == ([], Counts(same=2, sent_again=1))
