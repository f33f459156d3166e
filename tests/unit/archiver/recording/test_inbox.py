"""Whatever is delivered, and however it is grouped: the inbox gives each record once, in order, alone or in a run."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint
from archiver.core.segmentation import Settings, State
from archiver.kafka.topic_reader import record_headers
from archiver.recording.inbox import MessageInbox
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Record
from g3stream.contract.topics import ContractError
from g3stream.frame_format.layout import FRAME_TYPES
from tests.unit.archiver.core.test_segmentation_properties import NOON, SETTINGS, STREAM, MemoryArchive, json, quick
from tests.unit.archiver.core.test_segmenter import HAPPENINGS, log_of, message
from tests.unit.g3stream.contract.test_sequence import Message as SequenceMessage

A = "a" * 16


class InboxArchive(MemoryArchive):
    """Takes messages as a recorder does: from its inbox, as a run where there is one."""

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self.inbox = MessageInbox(ArchiveRoot(Location(Path("/nowhere")), "g", "here"), STREAM, first)
        self.inbox.start(first, Checkpoint(State(STREAM)), has_prior_state=True)
        self.seen = self.inbox.sequence
        self.runs = 0

    def deliver(self, messages: Sequence[Message], chosen: Settings) -> None:
        for each in messages:
            self.inbox.append(each, len(each))
        while self.inbox:
            if run := self.inbox.next_run(self.segmenter):
                assert self.open
                self.runs += 1
                self.open.frames += zip(run.times, run.values, strict=True)
                continue
            try:
                record = self.inbox.next_record()
            except ContractError:
                self.inbox.skip_quarantined()
                continue
            if record:
                self.record(record, chosen)
            self.inbox.report_losses(None)
        assert self.inbox.buffered_bytes == 0

    def mark_processed(self, record: Record) -> None:
        self.inbox.mark_processed(record, None)


def unreadable(offset: int) -> Message:
    return Message("g3.frames.x1", 0, offset, None, b"?", [("kind", b"unknown")], None, (1, NOON))


@quick
@given(
    st.lists(st.one_of(st.integers(1, 6), st.sampled_from(HAPPENINGS)), max_size=30),
    st.sets(st.integers(0, 60), max_size=3),
    SETTINGS,
    st.lists(st.integers(1, 9), max_size=30),
)
def test_it_comes_to_the_same_as_record_by_record(
    happenings: list[int | str], unreadable_at: set[int], chosen: Settings, batches: list[int]
) -> None:
    """Records that can't be read, and are in quarantine, are among them."""
    log: list[Message] = []
    for each in log_of(happenings, 0):
        if len(log) in unreadable_at:
            log.append(unreadable(len(log)))
        log.append(Message("t", 0, len(log), None, each.value(), each.headers(), None, each.timestamp()))
    alone, archive = MemoryArchive(), InboxArchive()
    for each in log:
        try:
            headers = record_headers(each)
        except ContractError:
            continue
        time, offset = each.timestamp()[1], each.offset() or 0
        alone.take(SequenceMessage(headers, time, each.value() or b""), offset, chosen)
    rest = log
    for size in [*batches, len(log)]:
        archive.deliver(rest[:size], chosen)
        rest = rest[size:]
    assert archive.all_files() == alone.all_files()
    assert json(archive.state) == json(alone.state)
    assert archive.segmenter.places() == alone.segmenter.places()
    assert archive.seen.epochs() == alone.seen.epochs()
    assert archive.seen.duplicates == alone.seen.duplicates
    assert sum(loss.records or 0 for loss in archive.inbox.losses.unpublished) == sum(
        loss.records or 0 for loss in alone.seen.losses
    )
    assert archive.inbox.next_offset == len(log)


def frames(seqs: Sequence[int], first_offset: int) -> list[Message]:
    headers = [RecordHeaders(Kind.FRAME, A, seq, FRAME_TYPES["Scan"], "x1", 1, seq) for seq in seqs]
    return [message(each, NOON, offset) for offset, each in enumerate(headers, first_offset)]


def test_frames_that_come_one_by_one_are_runs_as_well() -> None:
    archive = InboxArchive()
    for each in frames(range(10), 0):
        archive.deliver([each], Settings())
    assert archive.runs == 9


def test_what_was_deleted_without_a_loss_is_not_named_as_the_reason_of_a_later_one() -> None:
    archive = InboxArchive()
    archive.deliver(frames([0, 1, 2], 0), Settings())
    archive.inbox.on_offset_reset(5)
    archive.deliver(frames([3, 4], 5), Settings())
    archive.deliver(frames([9], 7), Settings())
    [loss] = archive.inbox.losses.unpublished
    assert (loss.records, loss.cause) == (4, "missing")


@pytest.mark.parametrize("waiting", [0, 2])
def test_a_loss_names_what_was_deleted_before_it(waiting: int) -> None:
    archive = InboxArchive()
    archive.deliver(frames([0, 1, 2], 0), Settings())
    for each in frames(range(3, 3 + waiting), 3):
        archive.inbox.append(each, len(each))
    archive.inbox.on_offset_reset(9)
    archive.deliver(frames([9, 10], 9), Settings())
    [loss] = archive.inbox.losses.unpublished
    assert (loss.records, loss.cause) == (6 - waiting, "deleted")
    assert "were deleted from the topic" in loss.what
