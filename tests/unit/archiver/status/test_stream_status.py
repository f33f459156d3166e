"""How a stream is, from its last records and what a group has committed."""

import json

import pytest
from msgspec.structs import replace

from archiver.commands import status
from archiver.core.checkpoint import Closing, encode
from archiver.core.paths import NameFormat
from archiver.core.segmentation import CloseReason, Settings
from archiver.kafka.topic_reader import OffsetAndMetadata
from archiver.kafka.topic_tail import TailRecord
from archiver.status.stream_status import Status, as_json, status_of
from g3stream.contract.headers import Kind
from tests.unit.archiver.core.test_catalog import FIRST, STREAM
from tests.unit.archiver.core.test_checkpoint import GOOD, IN_DECADES, largest
from tests.unit.g3stream.contract.test_sequence import A, record

NOW = FIRST.time + 3_600_000
LATELY = [TailRecord(8, record(A, 8), NOW - 60_000, 10), TailRecord(9, record(A, 9), NOW - 500, 10)]


def how(
    lately: list[TailRecord],
    commit: OffsetAndMetadata | None,
    next_ones: list[TailRecord] | None = None,
    first: int = 0,
) -> Status:
    return status_of(STREAM, "archiver", (first, 10), lately, commit, next_ones or [])


def test_frames_are_known_since_the_first_record_that_was_read() -> None:
    assert how(LATELY, None).frames_since == LATELY[0].time_ms


def test_the_state_says_further_back_than_can_be_read() -> None:
    assert GOOD.state.acquisition
    found = how(LATELY, OffsetAndMetadata(10, encode(GOOD)))
    assert found.frames_since == GOOD.state.acquisition.start_s * 1000
    behind = how(LATELY, OffsetAndMetadata(7, encode(GOOD)))
    assert behind.frames_since == LATELY[0].time_ms, "what came between isn't known"


def test_a_session_id_is_no_time_since_when_frames_come() -> None:
    """A crate's clock may be wrong by years, and a session longer than its file."""
    state = GOOD.state
    assert state.acquisition
    assert state.file
    assert GOOD.partial
    by_session = replace(state.acquisition, start_s=10**9, settings=Settings(name_format=NameFormat.SESSION))
    found = how(LATELY, OffsetAndMetadata(10, encode(replace(GOOD, state=replace(state, acquisition=by_session)))))
    assert found.frames_since == state.file.first_frame_ms


def test_the_last_fact_is_shown_with_its_why_and_age() -> None:
    fact = TailRecord(8, record(A, 8, kind=Kind.LOST, why="reset by peer"), NOW - 90_000, 0)
    found = how([TailRecord(7, record(A, 7), NOW - 91_000, 10), fact], OffsetAndMetadata(10, encode(GOOD)))
    assert (found.fact, found.fact_why, found.fact_time) == ("lost", "reset by peer", fact.time_ms)


def test_the_open_file_and_the_lag_are_shown() -> None:
    assert GOOD.partial
    found = how(LATELY, OffsetAndMetadata(8, encode(GOOD)), LATELY[:1])
    assert (found.lag, found.lag_since) == (2, LATELY[0].time_ms)
    assert (found.file, found.file_bytes, found.file_frames) == (
        GOOD.partial.path,
        GOOD.partial.length,
        GOOD.partial.frames,
    )


@pytest.mark.parametrize("why", [CloseReason.GAP, CloseReason.LOST])
def test_a_file_that_is_being_finished_says_why(why: CloseReason) -> None:
    closing = replace(GOOD, closing=Closing(why, "0" * 64, FIRST))
    found = how(LATELY, OffsetAndMetadata(10, encode(closing)))
    assert as_json(found)["closing"] == why


PROBLEMS = [
    pytest.param(None, 0, "not recorded by this group", id="never committed"),
    pytest.param(OffsetAndMetadata(5, ""), 0, "an offset, but without a checkpoint", id="no metadata"),
    pytest.param(OffsetAndMetadata(5, "{}"), 0, "no checkpoint", id="not ours"),
    pytest.param(
        OffsetAndMetadata(5, encode(largest(IN_DECADES, NameFormat.DATE))), 0, "is of the stream x", id="another's"
    ),
    pytest.param(OffsetAndMetadata(2, encode(GOOD)), 6, "4 records were deleted before", id="overtaken by retention"),
    pytest.param(OffsetAndMetadata(500, encode(GOOD)), 0, "deleted and created again", id="beyond the topic's end"),
]


@pytest.mark.parametrize(("commit", "first", "said"), PROBLEMS)
def test_what_is_wrong_is_said(commit: OffsetAndMetadata | None, first: int, said: str) -> None:
    found = how(LATELY, commit, first=first)
    assert said in (found.problem or "")


def test_a_record_that_breaks_the_contract_is_said() -> None:
    found = how([LATELY[0], TailRecord(9, None, NOW, 10)], OffsetAndMetadata(9, encode(GOOD)))
    assert "offset 9 can't be understood" in (found.problem or "")


def test_json_has_the_names_that_help_promises() -> None:
    said = status.make_parser().format_help()
    document = json.loads(json.dumps(as_json(how(LATELY, OffsetAndMetadata(8, encode(GOOD)), LATELY[:1]))))
    for name in document:
        assert name in said
    assert document["last_record"] == "2019-01-01T12:59:59.500Z"
    assert document["fact"] is None
