"""Whether there is an acquisition to close, and after which record, from what the end of a topic holds."""

from archiver.kafka.topic_tail import TailRecord
from archiver.operations.close_acquisition import Situation, situation
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.g3stream.contract.test_sequence import A, B, C, chunk, operators, record


def entries(*labels: RecordHeaders | None) -> list[TailRecord]:
    """One after the other, a second apart."""
    return [TailRecord(at, headers, 1000 * at, 10) for at, headers in enumerate(labels)]


def found(*labels: RecordHeaders | None) -> tuple[int | None, tuple[str, int] | None]:
    """The offset of the decisive record, and the last one seen."""
    at = situation(entries(*labels))
    return at.newest_fact.offset if at.newest_fact else None, at.last


def test_the_last_frame_or_fact_decides() -> None:
    assert situation([]) == Situation(None, None)
    assert found(record(A, 4), record(A, 5)) == (1, (A, 5))
    assert found(record(A, 4), record(A, 5, kind=Kind.END)) == (1, (A, 5))


def test_quiet_and_frames_that_arent_recorded_decide_nothing() -> None:
    left_out = record(A, 6)._replace(type=FRAME_TYPES["EndProcessing"])
    assert found(record(A, 4), record(A, 5, kind=Kind.QUIET), left_out) == (0, (A, 6))


def test_what_a_killed_ingests_successor_published_again_decides_nothing() -> None:
    """Killed itself amid that: the last record is an old one, and another is the last that archivers have seen."""
    assert found(record(A, 4), record(A, 5), record(A, 6, kind=Kind.END), record(A, 4)) == (2, (A, 6))


def test_an_operators_record_decides_unless_it_came_too_late() -> None:
    assert found(record(A, 4), operators(C, (A, 4))) == (1, (A, 4))
    assert found(record(A, 4), record(A, 5), operators(C, (A, 4))) == (1, (A, 5)), "archivers have dropped it"


def test_a_record_that_is_incomplete_hasnt_been_seen() -> None:
    assert found(record(A, 4), chunk(A, 5, 1, 2)) == (0, (A, 4))


def test_the_newest_ingests_records_are_the_last() -> None:
    assert found(record(A, 4), record(B, 0, kind=Kind.LOST, prev=(A, 4)), record(B, 1)) == (2, (B, 1))


def test_what_breaks_the_contract_is_seen() -> None:
    assert found(record(A, 4), None) == (1, (A, 4))
