"""Every later step can use whatever `decode` accepts; and what `encode` writes it accepts."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from archiver.archive.location import Location
from archiver.core import checkpoint, events
from archiver.core.checkpoint import Checkpoint, CheckpointError, Closing, Partial
from archiver.core.events import FileFinished
from archiver.core.formatting import format_iso, format_time
from archiver.core.paths import MAX_NUMBER, PartialName, parse_path, start_and_number
from archiver.core.segmentation import (
    CloseReason,
    Settings,
    State,
    after_close,
    close_reason,
    frame_window,
    head_types,
    path,
    step,
)
from archiver.segments.carry import carry_of
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import SequenceTracker, roll_back
from g3stream.frame_format.layout import frame_type_name
from g3stream.host.durations import format_duration
from tests.unit.archiver.core.test_catalog import finished
from tests.unit.archiver.core.test_checkpoint import GOOD, SCAN, places
from tests.unit.archiver.core.test_segmentation_properties import STREAM, quick

EDGES = sorted(
    {0, -1, 1, ord("O"), SCAN, 0xD800, 0x110000, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63)}
    | {MAX_NUMBER - 1, MAX_NUMBER, MAX_NUMBER + 1, 10**12, 9_999_999_999, 10**10, 253_402_300_800_000}
)
PATHS = [
    "15463/x1/2019-01-01-12-00-00_000.g3",
    "15463/x1/1546344000_000.g3",
    "15463/x1/2019-13-45-25-61-61_000.g3",
    "15463/x1/99999999999999999999_000.g3",
    "15463/x1/2019-01-01-12-00-00_999999999999.g3",
    f"15463/x1/2019-01-01-12-00-00_{MAX_NUMBER}.g3",
    "15463/x1/2019-01-01-12-00-00_0000.g3",
    "15463/x1/2019-1-1-12-0-0_000.g3",
    "15463/x1/-----_000.g3",
    "99999/x1/2019-01-01-12-00-00_000.g3",
    "00000/x1/0_000.g3",
    "00000/x1/0000000000_000.g3",
]
UNUSABLE_PATHS = [it for it in PATHS[2:] if it not in (PATHS[5], "00000/x1/0_000.g3")]
VALUES: st.SearchStrategy[Any] = (
    st.sampled_from(EDGES) | st.sampled_from(PATHS) | st.sampled_from([None, "", STREAM, "x1", "a" * 16, [], {}])
)
TIMES = st.sampled_from([it for it in EDGES if -(2**63) <= it < 2**63]) | st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.none() | TIMES
CODES = st.none() | st.sampled_from([it for it in EDGES if 0 <= it < 2**32])
LABELS = st.builds(
    RecordHeaders,
    st.sampled_from(Kind),
    st.just("a" * 16),
    st.integers(0, 2**63 - 1),
    CODES,
    st.none() | st.sampled_from(["x1", "y"]),
    NUMBERS,
    NUMBERS,
)
CLOSING = Closing(CloseReason.END, "0" * 64, GOOD.partial.last) if GOOD.partial else None


def mutated(document: Any, data: st.DataObject) -> str:
    """The document with some of its values replaced."""
    document = copy.deepcopy(document)
    for _ in range(data.draw(st.integers(1, 4))):
        container, key = data.draw(st.sampled_from(places(document)))
        container[key] = data.draw(VALUES)
    return json.dumps(document)


def use(found: Checkpoint, root: Path, headers: RecordHeaders, time: int, chosen: Settings) -> None:
    """All that is done with a checkpoint that was read back, and with the next state."""
    _, again = written(found)
    assert again == found
    SequenceTracker(found.epochs)
    for code in (*found.carry, *found.state.carry, *head_types(found.state, None)):
        assert frame_type_name(code)
    carry_of(found, Location(root), lambda _: ())
    if partial := found.partial:
        assert str(PartialName.parse(partial.name)) == partial.name
        start_and_number(partial.path)
        roll_back(found.epochs, partial.base.epochs)
        for at in (partial.first.time, partial.last.time):
            assert format_time(at)
            format_iso(at)
            format_duration(at)
        use_state(partial.base.state, headers, time, chosen, found)
    use_state(found.state, headers, time, chosen, found)


def use_state(state: State, headers: RecordHeaders, time: int, chosen: Settings, of: Checkpoint) -> None:
    """What the next record does to it; and that its state is read back, or never written."""
    if close_reason(state, headers, time):
        assert state.file
        state = after_close(state, state.file.number)
        assert close_reason(state, headers, time) is None
    frame_window(state, headers)
    state, _ = step(state, headers, time, chosen)
    frame_window(state, headers)
    partial: Partial | None = None
    if state.file:
        assert GOOD.partial
        base = replace(GOOD.partial.base, state=replace(state, file=None))
        partial = replace(GOOD.partial, path=path(state), base=base)
    try:
        text, again = written(replace(of, state=state, partial=partial, closing=None))
    except CheckpointError:
        return
    assert again.state == state, text
    assert partial is None or parse_path(partial.path)


def written(found: Checkpoint) -> tuple[str, Checkpoint]:
    """As it is committed, and read back."""
    text = checkpoint.encode(found)
    return text, checkpoint.decode(text, STREAM)


@settings(quick, max_examples=400)
@given(st.data(), LABELS, TIMES, st.builds(Settings, st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)))
def test_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, headers: RecordHeaders, time: int, chosen: Settings
) -> None:
    good = replace(GOOD, closing=data.draw(st.sampled_from([None, CLOSING])))
    text = mutated(json.loads(checkpoint.encode(good)), data)
    try:
        found = checkpoint.decode(text, STREAM)
    except CheckpointError:
        return
    use(found, tmp_path_factory.getbasetemp(), headers, time, chosen)


@settings(quick, max_examples=200)
@given(st.data(), LABELS, TIMES)
def test_an_event(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, headers: RecordHeaders, time: int
) -> None:
    good = finished(0, stream=STREAM, checkpoint=replace(GOOD, partial=None, state=after_close(GOOD.state, 0)))
    text = mutated(json.loads(events.encode(good)), data)
    try:
        found = events.decode(text.encode())
    except CheckpointError:
        return
    assert events.decode(events.encode(found)) == found
    assert found.key
    if isinstance(found, FileFinished):
        start_and_number(found.path)
        if found.stream == STREAM:
            use(found.checkpoint, tmp_path_factory.getbasetemp(), headers, time, Settings())


PLACES: dict[str, Callable[[Any, str], None]] = {
    "the open file": lambda document, path: document["partial"].update(path=path),
    "the carry": lambda document, path: document["carry"]["79"].update(path=path),
    "the carry of its beginning": lambda document, path: (
        document["partial"]["base"].setdefault("carry", {}).update({"79": {**document["carry"]["79"], "path": path}})
    ),
}


@pytest.mark.parametrize("path", UNUSABLE_PATHS)
@pytest.mark.parametrize("where", PLACES)
def test_a_path_that_no_file_can_have_is_refused(where: str, path: str) -> None:
    document = json.loads(checkpoint.encode(GOOD))
    PLACES[where](document, path)
    with pytest.raises(CheckpointError, match="is no file's path"):
        checkpoint.decode(json.dumps(document), STREAM)
    stem = path.removesuffix(".g3").replace("/", ".")
    assert PartialName.parse(f"{stem}.1546344000000.0123abcd") is None


@pytest.mark.parametrize("first", [2**63, -(2**63) - 1])
def test_a_partial_of_no_time_is_none(first: int) -> None:
    assert PartialName.parse(f"15463.x1.1546344000_000.{first}.0123abcd") is None


def test_what_would_be_refused_is_never_written() -> None:
    names = replace(GOOD.state.names, number=MAX_NUMBER + 1)
    with pytest.raises(CheckpointError):
        checkpoint.encode(replace(GOOD, state=replace(GOOD.state, names=names)))
    with pytest.raises(CheckpointError):
        events.encode(replace(finished(0), offset=-1))


def test_a_carried_frame_as_long_as_it_pleases_a_stranger_takes_no_memory(tmp_path: Path) -> None:
    place = GOOD.carry[ord("O")]
    existing = tmp_path / place.path
    existing.parent.mkdir(parents=True)
    existing.write_bytes(b"short")
    for length in (2**40, 2**63 - 1):
        for at in (0, 2**63 - 1):
            found = replace(GOOD, carry={ord("O"): replace(place, length=length, at=at)}, partial=None)
            assert carry_of(found, Location(tmp_path), lambda _: ()) == {}
