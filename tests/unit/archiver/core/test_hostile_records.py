"""Hostile records: no crash, no unbounded memory, and states and names that are always valid."""

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.core.checkpoint import Checkpoint, CheckpointError, decode, encode
from archiver.core.segmentation import Settings, State, after_close, close_reason, path, step
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import EPOCHS_REMEMBERED, SequenceTracker
from g3stream.contract.topics import ContractError
from tests.support.frames import SCAN
from tests.unit.archiver.core.test_checkpoint import GOOD
from tests.unit.archiver.core.test_segmentation_properties import STREAM

EPOCHS = [digit * 16 for digit in "abc"] + [f"{n:016x}" for n in range(40)]
INTEGERS = st.sampled_from([0, 1, 2, 3, 2**31, 2**62, 2**63 - 1, 2**63, -1, -(2**63), 10**18 - 1, 10**25])
SMALL = st.integers(0, 6)
HEADERS = st.fixed_dictionaries(
    {
        "v": st.just(b"1"),
        "kind": st.sampled_from([kind.encode() for kind in (*Kind, *[Kind.FRAME] * 6)]),
        "epoch": st.sampled_from(EPOCHS[:3] * 5 + EPOCHS).map(str.encode),
        "seq": st.one_of(SMALL, SMALL, SMALL, INTEGERS).map(lambda n: b"%d" % n),
    },
    optional={
        "type": st.one_of(st.sampled_from([SCAN, ord("O"), ord("P"), 2**32 - 1]), INTEGERS).map(lambda n: b"%d" % n),
        "id": st.sampled_from([b"x1", b"y2", b"..", b"", b"a/b", b"\xff", b"x" * 64]),
        "session": INTEGERS.map(lambda n: b"%d" % n),
        "num": INTEGERS.map(lambda n: b"%d" % n),
        "chunk": st.sampled_from([b"1/2", b"2/2", b"1/3", b"2/3", b"3/3", b"1/999999999", b"2/1", b"x"]),
        "why": st.binary(max_size=300),
        "prev": st.tuples(st.sampled_from(EPOCHS), st.one_of(SMALL, INTEGERS)).map(
            lambda p: f"{p[0]}:{p[1]}".encode()
        ),
        "unclean": st.sampled_from([b"1", b"0", b""]),
    },
)
TIMES = st.one_of(
    st.integers(1_700_000_000_000, 1_700_000_040_000),
    st.sampled_from([-1, 0, -(2**63), 2**63 - 1, 9_999_999_999_999, 10**13, 1_700_000_000_000]),
)
MESSAGES = st.lists(st.tuples(HEADERS, TIMES, st.binary(max_size=30)), min_size=1, max_size=60)
TIGHT = st.sampled_from([Settings(), Settings(1, 0), Settings(2**63 - 1, 2**63 - 1, carry=(SCAN, 2**32 - 1))])


def recorded(
    messages: list[tuple[dict[str, bytes], int, bytes]], chosen: Settings
) -> Iterator[tuple[State, SequenceTracker]]:
    """As a recording goes through them: the state after each that is no ContractError."""
    state, seen = State(STREAM), SequenceTracker()
    for offset, (raw, time, value) in enumerate(messages):
        try:
            headers = RecordHeaders.from_kafka(list(raw.items()))
        except ContractError:
            continue
        record = seen.assemble(headers, time, value, offset)
        if record:
            if close_reason(state, record.headers, record.time_ms):
                assert state.file
                state = after_close(state, state.file.number)
                assert not close_reason(state, record.headers, record.time_ms), "nothing closes twice"
            state, is_written = step(state, record.headers, record.time_ms, chosen)
            assert not is_written or state.file
            seen.mark_processed(record.headers)
        yield state, seen
        assert seen.safe_offset(offset + 1) <= offset + 1


@given(MESSAGES, TIGHT)
@settings(max_examples=150, deadline=None)
def test_hostile_records_give_states_that_can_be_committed_and_names_that_are_names(
    messages: list[tuple[dict[str, bytes], int, bytes]], chosen: Settings
) -> None:
    used: set[str] = set()
    opened = None
    for state, seen in recorded(messages, chosen):
        assert len(seen.epochs()) <= EPOCHS_REMEMBERED
        text = encode(Checkpoint(state if not state.file else after_close(state, state.file.number), seen.epochs()))
        assert decode(text, STREAM).state.stream == STREAM
        if state.file and state.file != opened:
            name = path(state)
            assert name not in used
            used.add(name)
            first, stream_id, file = name.split("/")
            assert len(first) == 5
            assert stream_id in (STREAM, "x1", "y2", "x" * 64)
            assert file.endswith(".g3")
        opened = state.file
        for loss in seen.losses:
            assert loss.what.isprintable()
            assert loss.records is None or 0 < loss.records <= 2**63


def test_records_that_are_never_completed_cost_neither_memory_nor_time_without_end() -> None:
    """Empty chunks never come to the bytes after which a record is given up."""
    seen = SequenceTracker([("f" * 16, 0)])
    tracemalloc.start()
    try:
        for number in range(3000):
            assert (
                seen.assemble(RecordHeaders(Kind.FRAME, f"{number:016x}", 0, SCAN, chunk=(1, 2)), 0, b"", number)
                is None
            )
            assert seen.safe_offset(number + 1) > number - 100, "or nothing could be committed"
            seen.losses.clear()  # as a recording does, once it has published them
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_record_of_chunks_without_end_is_given_up() -> None:
    seen = SequenceTracker([("f" * 16, 0)])
    megabyte = bytes(1_000_000)
    for k in range(1, 1200):
        assert (
            seen.assemble(RecordHeaders(Kind.FRAME, "f" * 16, 1, SCAN, chunk=(k, 999_999_999)), 0, megabyte, k)
            is None
        )
    assert [loss.records for loss in seen.losses] == [1]
    assert seen.safe_offset(1200) == 1200
    assert seen.assemble(RecordHeaders(Kind.FRAME, "f" * 16, 2, SCAN), 0, megabyte, 1200)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_mutated_metadata_is_a_checkpoint_or_refused(data: st.DataObject) -> None:
    text = encode(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        upto = data.draw(st.integers(at, min(len(text), at + 30)))
        more = data.draw(
            st.text(max_size=4)
            | st.sampled_from(
                ["1e999", "-0", "9" * 400, "[" * 900, '{"a":' * 300, "null", '"\\ud800"', "\x00", "1.0"]
            )
        )
        text = text[:at] + more + text[upto:]
    try:
        found = decode(text, STREAM)
    except CheckpointError:
        return
    assert found.state.stream == STREAM
    encode(found)


@pytest.mark.parametrize(
    "text", ["[" * 10**6, '{"state":' * 10**5, '"' + "x" * 10**7 + '"', "9" * 10**6, " " * 10**7]
)
def test_large_metadata_costs_no_more_than_its_length(text: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            decode(text, STREAM)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(text) + (1 << 20)
    finally:
        tracemalloc.stop()
