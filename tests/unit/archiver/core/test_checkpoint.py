"""What is committed can be read back, fits into a commit, and is trusted in nothing."""

import copy
import json
from pathlib import PurePath
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.core.checkpoint import (
    MAX_CHARACTERS,
    ArchiveMark,
    Base,
    Checkpoint,
    CheckpointError,
    Closing,
    FramePlace,
    Partial,
    RecordId,
    decode,
    encode,
    encode_minimal,
    where,
)
from archiver.core.paths import LATEST_START, NameFormat, file_path
from archiver.core.segmentation import Acquisition, CloseReason, OpenFileState, Settings, State, path
from archiver.core.used_names import RANGES_REMEMBERED, SESSIONS_REMEMBERED, Names, RecentSession, number_of_session
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import EPOCHS_REMEMBERED, SequenceTracker, epoch_changes, roll_back
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.archiver.core.test_segmentation_properties import SETTINGS, STREAM, MemoryArchive, quick, wild_logs
from tests.unit.g3stream.contract.test_sequence import Killed, Message, killed_ingests

SCAN = FRAME_TYPES["Scan"]


def checkpoint_of(archive: MemoryArchive) -> Checkpoint:
    """As a recording would make it."""
    state, file, base = archive.state, archive.open, archive.base
    places = {code: FramePlace(archive.all_files()[-1].path, code, 9, 7, 3) for code in state.carry}
    partial = None
    if file and base and state.file:
        first = RecordId(base.offset, "a" * 16, 0, state.file.first_frame_ms)
        changed = epoch_changes(base.epochs, archive.seen.epochs())
        before = msgspec.json.decode(base.state, type=State)
        partial = Partial(
            path(state), "0123abcd", len(file.bytes), 7, len(file.frames), first, first, state.carry,
            Base(base.offset, before, changed, {code: places[code] for code in before.carry if code in places}),
        )  # fmt: skip
    return Checkpoint(state, archive.seen.epochs(), len(archive.files), places, partial)


@quick
@given(wild_logs().flatmap(killed_ingests), SETTINGS, st.data())
def test_a_checkpoint_of_any_point_is_read_back_as_it_was(
    killed: Killed, chosen: Settings, data: st.DataObject
) -> None:
    until = data.draw(st.integers(0, len(killed.log)))
    archive = MemoryArchive()
    for at, message in enumerate(killed.log[:until]):
        archive.take(message, at, chosen)
    committed = checkpoint_of(archive)
    found = decode(encode(committed), STREAM)
    assert found == committed
    if archive.base:
        assert found.partial
        assert roll_back(found.epochs, found.partial.base.epochs) == archive.base.epochs
    offset = archive.seen.safe_offset(until)
    archive.segmenter.reset(found.state)
    archive.seen = SequenceTracker(found.epochs)
    for at, message in enumerate(killed.log[offset:], offset):
        archive.take(message, at, chosen)
    uninterrupted = MemoryArchive()
    for at, message in enumerate(killed.log):
        uninterrupted.take(message, at, chosen)
    assert archive.all_files() == uninterrupted.all_files()


# The largest


class Big(NamedTuple):
    """The largest numbers that a checkpoint may have to hold, and how many of what."""

    offset: int
    seq: int
    time: int
    length: int
    frames: int
    number: int
    code: int
    session: int = 2**63 - 1  # whatever a frame says
    carried: int = 3
    changed_epochs: int = 1  # since the file was begun


IN_DECADES = Big(
    offset=10**11 - 1,  # 200 records a second for 16 years
    seq=10**10 - 1,  # by one ingest, not restarted in a year and a half
    time=10**13 - 1,
    length=10**11 - 1,
    frames=10**8 - 1,
    number=10**4 - 1,
    code=ord("W"),
)
INT64 = 2**63 - 1
AS_TYPES_ALLOW = Big(INT64, INT64, INT64, INT64, INT64, 10**9, 2**32 - 1)
"""Of Kafka's offsets and times, and what headers may say."""


def largest(big: Big, name_format: NameFormat) -> Checkpoint:
    """A checkpoint in the middle of finishing a file, in which everything is as long as it can be."""
    long = "x" * 64
    types = tuple(range(big.code - big.carried + 1, big.code + 1))
    chosen = Settings(86_400_000 - 1, 86_400_000 - 1, name_format, types[:3])
    acquisition = Acquisition(LATEST_START, long, chosen, big.frames)
    names = Names(LATEST_START, LATEST_START, big.number, big.number)
    if name_format is NameFormat.SESSION:
        sessions = (
            RecentSession(LATEST_START - n, big.number, max(-big.session, -(2**48)))
            for n in range(SESSIONS_REMEMBERED)
        )
        names = replace(names, sessions=tuple(sessions), past=((LATEST_START, LATEST_START),) * RANGES_REMEMBERED)
    file_now = OpenFileState(big.number, big.time, big.seq)
    state = State(long, acquisition, file_now, big.time, types, long, names, -big.session, -big.session)
    file = file_path(LATEST_START, long, big.number, name_format)
    places = {code: FramePlace(file, big.length, big.length, 2**32 - 1, big.offset) for code in types}
    epochs = tuple((f"{2**64 - 1 - n:016x}", big.seq) for n in range(EPOCHS_REMEMBERED))
    last = RecordId(big.offset, epochs[0][0], big.seq, big.time, Kind.CONNECTED)
    changed = {epoch: seq - 1 for epoch, seq in epochs[: big.changed_epochs]}
    base = Base(big.offset, replace(state, file=None), changed, places)
    partial = Partial(file, "0123abcd", big.length, 2**32 - 1, big.frames, last, last, types[:3], base)
    closing = Closing(CloseReason.START, "0" * 64, last, "0" * 32)
    mark = ArchiveMark("0" * 16, where("h" * 64, PurePath("/" + "x" * 200)))
    return Checkpoint(state, epochs, big.frames, places, partial, closing, archive=mark)


TOO_LARGE = "encode raises, at every commit, and the archiver ends: {} characters"
LARGEST = [
    pytest.param(IN_DECADES, id="in decades of use"),
    pytest.param(
        AS_TYPES_ALLOW,
        id="as its types allow",
    ),
    pytest.param(
        IN_DECADES._replace(seq=INT64, time=INT64),
        id="a hostile ingest's seqs and times",
    ),
    pytest.param(
        IN_DECADES._replace(changed_epochs=EPOCHS_REMEMBERED),
        id="32 ingests taking turns",
    ),
]


@pytest.mark.parametrize("name_format", NameFormat)
@pytest.mark.parametrize("big", LARGEST)
def test_the_largest_fits_into_a_commit(big: Big, name_format: NameFormat) -> None:
    found = largest(big, name_format)
    text = encode(found)
    print(f"{len(text)} characters")
    assert len(text) <= MAX_CHARACTERS == 4095
    kept = decode(text, found.state.stream)
    assert (kept.state, kept.carry, kept.closing) == (found.state, found.carry, found.closing)
    assert kept.archive
    assert found.archive
    assert kept.archive.id == found.archive.id
    assert kept.archive.where == (found.archive.where if len(kept.epochs) == len(found.epochs) else "")
    assert kept.epochs == found.epochs[len(found.epochs) - len(kept.epochs) :], "the newest are kept"
    by_session = name_format is NameFormat.SESSION and big is AS_TYPES_ALLOW
    assert len(kept.epochs) >= (1 if by_session else 8), "of a spool, the latest is enough to recognize duplicates"
    assert kept.partial
    assert found.partial
    before = found.partial.base.state.names
    assert kept.partial.base.state.names == before or by_session
    shortest = decode(encode_minimal(text, found.state.stream), found.state.stream)
    for short in (kept, shortest):
        assert short.partial
        number = number_of_session(short.partial.base.state.names, LATEST_START)
        assert number == number_of_session(before, LATEST_START), "the open file is rebuilt under its number"


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([Kind.FRAME, Kind.FRAME, Kind.FRAME, Kind.END]),
        st.sampled_from([SCAN, FRAME_TYPES["Observation"]]),
        st.integers(-(2**63), 2**63 - 1) | st.sampled_from([10**9, LATEST_START, -(2**63), 2**63 - 1]),
        st.integers(-(2**63), 2**63 - 1) | st.none(),
    ),
    max_size=20,
)


@quick
@given(FRAMES)
def test_whatever_session_and_number_a_frame_says_can_be_committed(
    records: list[tuple[Kind, int, int, int | None]],
) -> None:
    archive = MemoryArchive()
    chosen = Settings(carry=(FRAME_TYPES["Observation"],), name_format=NameFormat.SESSION)
    for at, (kind, code, session, num) in enumerate(records):
        frame = kind is Kind.FRAME
        headers = (
            RecordHeaders(kind, "a" * 16, at, code, "x1", session, num)
            if frame
            else RecordHeaders(kind, "a" * 16, at)
        )
        archive.take(Message(headers, 1_546_344_000_000 + at, b"frame"), at, chosen)
        found = checkpoint_of(archive)
        assert decode(encode(found), STREAM) == found


def test_one_that_is_too_large_is_refused_not_cut() -> None:
    with pytest.raises(CheckpointError, match=r"of \d{4,} characters; Kafka takes 4095"):
        encode(largest(AS_TYPES_ALLOW._replace(carried=30), NameFormat.DATE))


def test_one_of_before_archives_had_an_identity_is_read_and_looks_as_before() -> None:
    old = '{"state":{"stream":"s"},"files":3}'
    assert decode(old, "s").archive is None
    assert "archive" not in encode(decode(old, "s"))


def test_an_older_program_reads_a_new_one() -> None:
    """It ignores what it doesn't know: so it did before there was an identity."""
    text = encode(Checkpoint(State("s"), files=3, archive=ArchiveMark("0" * 16, "host:/data")))
    assert json.loads(text)["archive"] == {"id": "0" * 16, "where": "host:/data"}
    assert decode(text.replace('"archive"', '"something"'), "s") == Checkpoint(State("s"), files=3)


@pytest.mark.parametrize(
    "mark",
    [
        {},
        {"id": "0" * 15},
        {"id": "../../../../etc/x"},
        {"id": "0" * 16, "where": "a\u001b"},
        {"id": "0" * 16 + "\n"},
    ],
)
def test_an_archive_that_nobody_would_name_is_refused(mark: dict[str, str]) -> None:
    with pytest.raises(CheckpointError):
        decode(json.dumps({"state": {"stream": "s"}, "archive": mark}), "s")


# Kafka is untrusted input


def recorded_once() -> Checkpoint:
    """Of a stream that carries an Observation, with a file open."""
    archive = MemoryArchive()
    for at, code in enumerate((FRAME_TYPES["Observation"], SCAN)):
        archive.take(
            Message(RecordHeaders(Kind.FRAME, "a" * 16, at, code, "x1"), 1_546_344_000_000, b"frame"), at, Settings()
        )
    return checkpoint_of(archive)


GOOD = recorded_once()
AS_JSON: dict[str, Any] = json.loads(encode(GOOD))


def changed(at: str, value: object) -> str:
    """The good checkpoint with that value at a dotted place."""
    document = copy.deepcopy(AS_JSON)
    inner: Any = document
    *parents, last = at.split(".")
    for key in parents:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "[]",
        "{}",
        "1",
        '"x"',
        "{",
        '{"state":{}}',
        "\x00",
        "\ud800",
        "{'state'}",
        encode(GOOD)[:-1],
        encode(GOOD) + "x",
    ],
)
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        decode(text, STREAM)


@pytest.mark.parametrize(
    ("at", "value"),
    [
        ("state.stream", "../../etc"),
        ("state.stream", "crate1slot2\n"),
        ("state.stream", "x" * 65),
        ("state.stream", None),
        ("state.start_id", "a/b"),
        ("state.acquisition.id", ".."),
        ("state.acquisition.id", ""),
        ("state.acquisition.start", "now"),
        ("state.acquisition.settings.name_format", "iso"),
        ("state.last", 1.5),
        ("state.last", True),
        ("state.carry", "O"),
        ("epochs", [["A" * 16, 1]]),
        ("epochs", [["a" * 16, -1]]),
        ("epochs", [["a" * 15, 1]]),
        ("epochs", [["a" * 16]]),
        ("files", -1),
        ("carry.79.path", "/etc/passwd"),
        ("carry.79.path", "15463/../x/1_000.g3"),
        ("carry.79.path", "15463/../../1_000.g3"),
        ("carry.79.path", "15463/x/1_000.g3\n"),
        ("carry.79.crc", 2**32),
        ("carry.79.at", -1),
        ("carry.x", {}),
        ("partial", None),
        ("partial.random", "../23abc"),
        ("partial.random", "0123abcd/x"),
        ("partial.random", "0123abcg"),
        ("partial.path", "15463/x/../../../etc_000.g3"),
        ("partial.length", -1),
        ("partial.base.state", None),
        ("partial.base.state.stream", "a b"),
        ("partial.base.epochs", {"a": 1}),
        ("partial.base.epochs", {"a" * 16: -2}),
        ("partial.first.kind", "other"),
        ("closing", {"why": "bored", "sha256": "0" * 64, "record": AS_JSON["partial"]["first"]}),
        ("closing", {"why": "end", "sha256": "0" * 63, "record": AS_JSON["partial"]["first"]}),
        ("v", 2),
        ("v", "1"),
        ("v", None),
    ],
)
def test_what_may_not_be_is_refused(at: str, value: object) -> None:
    with pytest.raises(CheckpointError):
        decode(changed(at, value), STREAM)


def test_another_streams_checkpoint_is_refused() -> None:
    with pytest.raises(CheckpointError, match=f"of the stream {STREAM}"):
        decode(encode(GOOD), "crate1slot3")


def test_another_versions_checkpoint_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="version 2; this program reads 1"):
        decode(changed("v", 2), STREAM)


CONTRADICTIONS = [
    pytest.param(changed("state.acquisition", None), id="an open file of no acquisition"),
    pytest.param(changed("state.acquisition.start", 10**18), id="a start without a date"),
    pytest.param(changed("state.acquisition.start", -1), id="a negative start"),
    pytest.param(changed("state.names.number", -(10**6)), id="a number below 0"),
    pytest.param(
        json.dumps(
            {
                "state": {"stream": STREAM},
                "closing": {"why": "end", "sha256": "0" * 64, "record": AS_JSON["partial"]["first"]},
            }
        ),
        id="closing of no file",
    ),
    pytest.param(changed("state.carry", [-1]), id="a type below 0"),
    pytest.param(changed("partial.length", 2**70), id="a length that no file has"),
    pytest.param(changed("partial.base.offset", 2**70), id="an offset that Kafka has not"),
    pytest.param(changed("partial.base.state.stream", "another"), id="a base of another stream"),
]


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        decode(text, STREAM)


def test_what_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(CheckpointError):
        decode('{"x":' + "[" * 4_000, STREAM)


WORDS = st.text("ab/.-_019\n\u20ac", max_size=8)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.sampled_from(["..", "a" * 16, "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)


def places(document: object) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON document."""
    pairs = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [place for key, value in pairs for place in [(document, key), *places(value)]]


@quick
@given(st.binary().map(lambda raw: raw.decode("latin-1")) | ANY_JSON.map(json.dumps))
def test_random_metadata_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError):
        decode(text, STREAM)


@quick
@given(st.data(), ANY_JSON)
def test_whatever_is_taken_stays_below_the_data_directory(data: st.DataObject, value: object) -> None:
    document = copy.deepcopy(AS_JSON)
    container, key = data.draw(st.sampled_from(places(document)))
    container[key] = value
    try:
        found = decode(json.dumps(document), STREAM)
    except CheckpointError:
        return
    assert found.state.stream == STREAM
    named = [place.path for place in found.carry.values()] + ([found.partial.path] if found.partial else [])
    for directory, stream_id, name in (PurePath(place).parts for place in named):
        assert directory.isdigit()
        assert ".." not in (stream_id, name)
    if found.partial:
        assert PurePath(found.partial.name).name == found.partial.name


@pytest.mark.parametrize("spools", [1, 2, EPOCHS_REMEMBERED])
def test_the_least_of_it_lacks_only_what_can_be_spared(spools: int) -> None:
    whole = largest(IN_DECADES, NameFormat.DATE)
    assert whole.partial
    epochs = tuple((f"{n:011x}{n % spools:05x}", n) for n in range(EPOCHS_REMEMBERED))
    before = {epochs[-1][0]: 3, epochs[-2][0]: -1}
    partial = replace(whole.partial, base=replace(whole.partial.base, epochs=before))
    text = encode(replace(whole, epochs=epochs, partial=partial))
    short = encode_minimal(text, whole.state.stream)
    found, kept = decode(text, whole.state.stream), decode(short, whole.state.stream)
    assert (kept.state, kept.carry, kept.closing, kept.files) == (
        found.state,
        found.carry,
        found.closing,
        found.files,
    )
    assert kept.epochs == epochs[-spools:], "the latest of each spool"
    assert kept.partial
    of_file = roll_back(kept.epochs, kept.partial.base.epochs)
    assert of_file[-1] == (epochs[-1][0], 3), "what was seen before the open file's first record"
    assert encode_minimal(short, whole.state.stream) == short


def test_the_least_of_what_is_no_checkpoint_is_that() -> None:
    assert encode_minimal("", STREAM) == ""
