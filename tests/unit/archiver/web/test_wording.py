"""The words for why a file was closed, how records were lost, and what a file lacks."""

from dataclasses import replace

import pytest

from archiver.core.segmentation import CloseReason
from archiver.web.records.views import file_row, file_view, loss_row, session_view
from archiver.web.wording import closing_brief, closing_text, loss_text, missing_text
from g3stream.contract.sequence import LossCause
from tests.unit.archiver.web.recorded import FILE, LOSS, MINUTE

NOW = FILE.end_ms + MINUTE


@pytest.mark.parametrize("why", CloseReason)
def test_every_reason_to_close_a_file_has_words(why: CloseReason) -> None:
    assert closing_brief(why)
    assert len(closing_text(why).split()) > 3


def test_a_reason_of_a_newer_version_is_left_out() -> None:
    assert closing_brief("eclipse") == closing_text(None) == ""


@pytest.mark.parametrize("cause", LossCause)
def test_every_cause_of_a_loss_is_a_sentence_with_the_details_below(cause: LossCause) -> None:
    row = loss_row(replace(LOSS, cause=cause.value), NOW)
    assert len(row.text.split()) > 5
    assert row.detail == LOSS.what


def test_without_a_cause_what_is_known_is_said_once() -> None:
    row = loss_row(replace(LOSS, cause=None, times=3), NOW)
    assert (row.text, row.detail) == (f"{LOSS.what} (3 times)", "")
    assert loss_text(LOSS) == LOSS.what  # of a cause that this version doesn't know


def test_a_file_during_which_records_were_lost_does_not_say_that_nothing_is_missing() -> None:
    def shown(missing: int, *records: int | None) -> tuple[str, str]:
        losses = tuple(replace(LOSS, records=it) for it in records)
        file = replace(FILE, missing=missing, losses=losses)
        (fact,) = [it for it in file_view(file, None, NOW).facts if it.name == "missing"]
        assert fact.is_fault is bool(missing or records)
        return file_row(file, NOW).missing, fact.text

    assert shown(0) == ("", "nothing")
    assert shown(3) == ("3", "3 frames never reached ingest")
    assert shown(0, 12) == ("12 lost", "12 records lost after ingest had received them")
    assert shown(1, 12, None) == (
        "1, ? lost",
        "1 frame never reached ingest; an unknown number of records lost after ingest had received them",
    )
    assert missing_text(0, ()) == "nothing"


def test_a_sessions_page_does_not_repeat_the_session_in_each_row() -> None:
    view = session_view(1795986000, [FILE], NOW)
    assert view.with_stream
    assert not view.with_session
