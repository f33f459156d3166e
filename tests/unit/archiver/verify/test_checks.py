"""The checks of an archive, against its events: no fault without a reason, each with its reason."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.archive.location import Location
from archiver.core.checkpoint import Checkpoint, RecordId
from archiver.core.events import FileFinished, RecordsLost
from archiver.core.paths import NameFormat, file_path
from archiver.core.segmentation import CloseReason, Settings, State, step
from archiver.verify.checks import Counts, Fault, FileContents, Finding, SessionRun, check_stream
from archiver.verify.file_reads import read_contents
from archiver.verify.topic_comparison import Comparison, RecordedStream
from archiver.verify.tree_scan import scan_tree
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.service.cancellation import CancellationToken
from tests.support.frames import SCAN, frame, frame_with

A, B = "a" * 16, "b" * 16
START = 1_546_344_000
OBSERVATION = FRAME_TYPES["Observation"]


def event(number: int, first: int, last: int, **more: Any) -> FileFinished:
    """The event of a file of the records `first` to `last` of one epoch, which are at those offsets."""
    epoch = more.pop("epoch", A)
    event = FileFinished(
        group="g",
        stream="s",
        path=file_path(START, "s", number, NameFormat.DATE),
        number=number,
        id="s",
        start=START,
        suffix=number,
        settings=Settings(),
        why=CloseReason.END,
        frames=last - first + 1,
        bytes=100,
        sha256=f"{number:064x}",
        carry=(),
        first=RecordId(first, epoch, first, 1000 * first),
        last=RecordId(last, epoch, last, 1000 * last),
        closing=RecordId(last + 1, epoch, last + 1, 1000 * last, Kind.END),
        offset=last + 1,
        checkpoint=Checkpoint(State("s", session=1, num=last), ((epoch, last),)),
        host="h",
    )
    return replace(event, **more)


def faults(
    events: list[FileFinished],
    runs: dict[int, list[SessionRun]] | None = None,
    losses: list[RecordsLost] | None = None,
) -> list[tuple[Fault, int]]:
    """Faults, and the numbers of the files that have them."""
    seen = {
        it.path: FileContents(it.bytes, it.sha256, it.frames, tuple((runs or {}).get(it.number, []))) for it in events
    }
    found = check_stream(events, losses or [], {it.path: it for it in events}, seen)
    return [(it.fault, it.event.number) for it in found if isinstance(it.event, FileFinished)]


def test_events_that_fit_together() -> None:
    assert faults([event(1, 0, 9), event(2, 11, 20), event(3, 0, 5, epoch=B)]) == []


def test_a_number_left_out() -> None:
    assert faults([event(1, 0, 9), event(3, 11, 20)]) == [(Fault.EVENT, 3)]


def test_a_path_that_is_not_the_events() -> None:
    assert faults([event(1, 0, 9, suffix=7)]) == [(Fault.EVENT, 1)]
    assert faults([event(1, 0, 9, start=START + 1)]) == [(Fault.EVENT, 1)]


@pytest.mark.parametrize("first", [0, 5, 9])
def test_records_in_two_files(first: int) -> None:
    assert faults([event(1, 0, 9), event(2, first, 20)]) == [(Fault.DUPLICATE_FRAMES, 2)]


def test_frames_in_two_files() -> None:
    events = [event(1, 0, 9), event(2, 11, 20), event(3, 22, 30)]
    runs = {1: [SessionRun(1, 0, 9, True)], 2: [SessionRun(1, 10, 19, True)], 3: [SessionRun(1, 20, 28, True)]}
    assert faults(events, runs) == []
    assert faults(events, runs | {3: [SessionRun(1, 20, 28, True), SessionRun(1, 4, 5, True)]}) == [
        (Fault.DUPLICATE_FRAMES, 3)
    ]
    again = [SessionRun(1, 4, 4, False), SessionRun(1, 20, 28, True)]  # an Observation, say, sent again
    assert faults(events, runs | {3: again}) == []
    assert faults(events, runs | {3: [SessionRun(2, 0, 9, True)]}) == []  # of another session


def test_a_gap_between_files_is_missed_in_the_later() -> None:
    events, runs = [event(1, 0, 9), event(2, 11, 20)], {2: [SessionRun(1, 12, 21, True)]}
    assert faults(events, runs) == [(Fault.UNREPORTED_GAP, 2)]
    assert faults([events[0], replace(events[1], missing=2)], runs) == []
    loss = RecordsLost("g", "s", 2, "given up", 10, 9000, 9000, "h")
    assert faults(events, runs, [loss]) == []  # the state that recording continued from isn't known
    assert faults([events[1]], runs) == []


SESSIONS = [1, START, START + 1, START + 10, 10**13]
"""Some of which can name files."""


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.tuples(st.sampled_from([SCAN, SCAN, OBSERVATION]), st.sampled_from(SESSIONS), st.integers(-2, 12)),
        max_size=12,
    ),
    st.tuples(st.sampled_from([None, *SESSIONS]), st.integers(0, 5)),
    st.sampled_from(NameFormat),
)
def test_missing_frames_are_counted_as_they_were_when_recorded(
    tmp_path_factory: pytest.TempPathFactory,
    frames: list[tuple[int, int, int]],
    before: tuple[int | None, int],
    name_format: NameFormat,
) -> None:
    root = tmp_path_factory.mktemp("file")
    recorded = []
    state = State("s", session=before[0], num=before[1])
    chosen = Settings(name_format=name_format)
    for seq, (code, session, num) in enumerate(frames):
        state, is_written = step(state, RecordHeaders(Kind.FRAME, A, seq, code, None, session, num), 1000, chosen)
        if is_written:
            recorded.append(frame_with(code, session_id=session, frame_num=num))
    data = b"".join(recorded)
    (root / "x.g3").write_bytes(data)
    missing = state.file.missing if state.file else 0
    seen = read_contents(root, "x.g3", 0, CancellationToken(), lambda _: None)
    assert (seen.bytes, seen.frames, seen.broken) == (len(data), len(recorded), None)
    assert seen.sha256 == hashlib.sha256(data).hexdigest()
    events = [event(1, 0, 9, checkpoint=Checkpoint(State("s", session=before[0], num=before[1])))]
    events.append(event(2, 11, 20, missing=missing, settings=chosen))
    by_path = {events[1].path: events[1]}
    assert [
        it for it in check_stream(events, [], by_path, {events[1].path: seen}) if it.fault is Fault.UNREPORTED_GAP
    ] == []
    if missing:
        events[1] = replace(events[1], missing=missing - 1)
        found = check_stream(events, [], by_path, {events[1].path: seen})
        assert Fault.UNREPORTED_GAP in [it.fault for it in found]


def test_the_carry_is_left_out_of_the_runs(tmp_path: Path) -> None:
    carry = frame_with(OBSERVATION, session_id=1, frame_num=3)
    own = [frame_with(session_id=1, frame_num=num) for num in (10, 11, 13)]
    (tmp_path / "x.g3").write_bytes(carry + b"".join(own))
    found = read_contents(tmp_path, "x.g3", 1, CancellationToken(), lambda _: None)
    assert found.runs == (SessionRun(1, 10, 11, True), SessionRun(1, 13, 13, True))


def test_a_tree_of_odd_things(tmp_path: Path) -> None:
    (tmp_path / "15463" / "s").mkdir(parents=True)
    (tmp_path / "15463" / "s" / "a.g3").write_bytes(b"x")
    (tmp_path / "15463" / "s" / "SHA256SUMS").write_bytes(b"x")
    (tmp_path / "15463" / "loop").symlink_to(tmp_path)
    (tmp_path / "15463" / "s" / "link.g3").symlink_to("a.g3")
    (tmp_path / "15463" / "s" / "directory.g3" / "below").mkdir(parents=True)
    (tmp_path / "15463" / "s" / "directory.g3" / "below" / "b.g3").write_bytes(b"x")
    for elsewhere in ("mine.g3", "mine/b.g3", "15463/b.g3", "15463/s.t/b.g3", "154630/s/b.g3", "mine/s/b.g3"):
        (tmp_path / elsewhere).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / elsewhere).write_bytes(b"x")
    (tmp_path / "17000").write_bytes(b"x")
    (tmp_path / ".archiver" / "s").mkdir(parents=True)
    (tmp_path / ".archiver" / "s" / "hidden.g3").write_bytes(b"x")
    found = scan_tree(tmp_path)
    assert {path: entry.kind != "" for path, entry in found.entries.items()} == {
        "15463/s/a.g3": False,
        "15463/s/link.g3": True,
        "15463/s/directory.g3": True,
    }
    assert (found.summed_directories, found.closed) == ({"15463/s"}, {})
    with pytest.raises(FileNotFoundError):
        scan_tree(tmp_path / "nowhere")


# -- beside the topic -----------------------------------------------------------------------------------------


VALUES = [frame([(b"n", bytes([n]) * 50)]) for n in range(40)]
Log = list[tuple[RecordHeaders, bytes]]


def log_of(*seqs: int, epoch: str = A) -> Log:
    return [(RecordHeaders(Kind.FRAME, epoch, seq, SCAN), VALUES[seq]) for seq in seqs]


def chunked(log: Log, at: int) -> Log:
    """The same with one record in two chunks."""
    headers, value = log[at]
    halves = [(headers._replace(chunk=(k, 2)), value[20 * (k - 1) : 20 if k == 1 else None]) for k in (1, 2)]
    return [*log[:at], *halves, *log[at + 1 :]]


Compared = tuple[list[Finding], Counts]


def compared(root: Path, log: Log, events: list[FileFinished], start: int = 0, **more: Any) -> Compared:
    """Compare; each record's time is its seq in s."""
    known = RecordedStream(
        "s", events, {it.path for it in events}, more.get("losses", ()), more.get("offset"), None, None
    )
    comparison = Comparison(Location(root), known, start, start + len(log), counts := Counts())
    for offset, (headers, value) in enumerate(log, start):
        comparison.add_record(headers, 1000 * headers.seq, value, offset)
    comparison.close()
    return comparison.findings, counts


def written(root: Path, event: FileFinished, values: list[bytes]) -> FileFinished:
    (root / event.path).parent.mkdir(parents=True, exist_ok=True)
    (root / event.path).write_bytes(b"".join(values))
    return replace(event, bytes=sum(map(len, values)))


@pytest.fixture
def two(tmp_path: Path) -> list[FileFinished]:
    """Files of the records 0 to 9, and 10 to 19 with one carried at its head."""
    return [
        written(tmp_path, event(1, 0, 9), VALUES[:10]),
        written(tmp_path, event(2, 10, 19, carry=(OBSERVATION,)), VALUES[3:4] + VALUES[10:20]),
    ]


def texts(found: Compared) -> list[tuple[Fault, str]]:
    return [(it.fault, it.text if it.fault is Fault.NOT_IN_FILE else it.path) for it in found[0]]


def test_a_topic_as_the_files_are(tmp_path: Path, two: list[FileFinished]) -> None:
    assert compared(tmp_path, log_of(*range(20)), two) == ([], Counts(same=20))
    twice = log_of(*range(13), *range(5, 20))  # ingest publishes at least once
    assert compared(tmp_path, twice, two) == ([], Counts(same=20))
    assert compared(tmp_path, chunked(log_of(*range(20)), 10), two) == ([], Counts(same=20))


@pytest.mark.parametrize("begin", range(1, 20))
def test_a_topic_that_begins_later(tmp_path: Path, two: list[FileFinished], begin: int) -> None:
    log = log_of(*range(begin, 20))
    assert compared(tmp_path, log, two, begin) == ([], Counts(same=20 - begin))
    cut = chunked(log_of(*range(begin - 1, 20)), 0)[1:]  # inside a record
    assert compared(tmp_path, cut, two, begin) == ([], Counts(same=20 - begin))


def test_what_comes_again_of_files_before_the_topics_first_record(tmp_path: Path, two: list[FileFinished]) -> None:
    log = log_of(*range(7, 20))
    assert compared(tmp_path, log, two, 10) == ([], Counts(same=10))


def test_frames_in_no_file(tmp_path: Path, two: list[FileFinished]) -> None:
    log = log_of(*range(20), 20, 21, 22)
    assert texts(compared(tmp_path, log, two, offset=21)) == [
        (Fault.NOT_IN_FILE, "in no file: 1 frame, offset 20, 1970-01-01 00:00:20 UTC")
    ]
    assert compared(tmp_path, log, two, offset=20)[1].unrecorded == 3
    assert compared(tmp_path, log, two)[1].unrecorded == 3
    loss = RecordsLost("g", "s", 3, "given up", 23, 20_000, 22_000, "h")
    assert compared(tmp_path, log, two, offset=23, losses=[loss])[1].explained == 3
    between = [*log_of(*range(10)), *log_of(1, 2, epoch=B), *log_of(*range(10, 20))]
    assert texts(compared(tmp_path, between, two)) == [
        (
            Fault.NOT_IN_FILE,
            "in no file: 2 frames, offset 10, 1970-01-01 00:00:01 UTC, to offset 11, 1970-01-01 00:00:02 UTC",
        )
    ]


def test_a_file_unlike_the_topic(tmp_path: Path, two: list[FileFinished]) -> None:
    others = [VALUES[n] for n in range(10)]
    for wrong in (others[:4] + others[5:], [*others, VALUES[30]], [*others[:9], VALUES[30]], [VALUES[30], *others]):
        events = [written(tmp_path, two[0], wrong), two[1]]
        found = compared(tmp_path, log_of(*range(20)), events)
        assert texts(found) == [(Fault.DIFFERS_FROM_TOPIC, two[0].path)]
        assert found[1].same == 10
    events = [written(tmp_path, two[0], [*others[:8], others[9], others[8]]), two[1]]
    assert texts(compared(tmp_path, log_of(*range(5, 20)), events, 5)) == [(Fault.DIFFERS_FROM_TOPIC, two[0].path)]


def test_a_topic_that_ends_within_a_file(tmp_path: Path, two: list[FileFinished]) -> None:
    [found], _ = compared(tmp_path, log_of(*range(15)), two)
    assert found == Finding(
        Fault.DIFFERS_FROM_TOPIC, "s", two[1].path, "the topic ends before its last frame", two[1]
    )
