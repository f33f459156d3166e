"""The commit position: nothing is committed below the last commit, and a roll-back returns to it."""

from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint
from archiver.core.segmentation import State
from archiver.kafka.group_consumer import CommittedOffset
from archiver.recording.commit_position import CommitPosition, Snapshot
from g3stream.contract.sequence import Epochs
from g3stream.service.cancellation import CancellationToken

STREAM = "slot1"


def checkpoint(files: int) -> Checkpoint:
    none: Epochs = ()
    return Checkpoint(State(STREAM), none, files, {}, None)


def snapshot(offset: int, files: int = 0, taken_s: float = 0) -> Snapshot:
    return Snapshot(STREAM, CancellationToken(), offset, checkpoint(files), None, (), taken_s)


def taken(offset: int | None, files: int = 0) -> CommitPosition:
    metadata = "" if offset is None else checkpoints.encode(checkpoint(files))
    return CommitPosition(CommittedOffset(STREAM, offset, metadata))


def test_what_lies_below_the_commit_that_the_stream_was_taken_with_is_not_committed() -> None:
    position = taken(40)
    assert not position.may_commit(39)
    assert position.may_commit(40)


def test_with_nothing_committed_anything_may_be() -> None:
    assert taken(None).may_commit(0)
    assert CommitPosition(CommittedOffset(STREAM, 40, "")).may_commit(0)  # reset, with Kafka's own tools


def test_a_file_that_is_rebuilt_is_not_committed_below_its_end() -> None:
    position = taken(None)
    position.rebuild_from(90)
    assert not position.may_commit(89)


def test_a_recreated_topic_is_committed_from_its_beginning() -> None:
    position = taken(40)
    position.on_offset_reset(0)
    assert position.may_commit(0)


def test_records_deleted_after_the_commit_leave_the_floor_where_it_is() -> None:
    position = taken(40)
    position.on_offset_reset(60)
    assert not position.may_commit(39)


def test_it_goes_back_to_what_was_committed_last_and_never_below() -> None:
    position = taken(40, files=1)
    assert position.roll_back() == CommittedOffset(STREAM, 40, checkpoints.encode(checkpoint(1)))
    position.on_snapshot_done(snapshot(50, files=2), committed=True)
    assert position.roll_back() == CommittedOffset(STREAM, 50, checkpoints.encode(checkpoint(2)))
    assert not position.may_commit(49)
    position.on_finalized(60, checkpoint(3))
    assert position.roll_back() == CommittedOffset(STREAM, 60, checkpoints.encode(checkpoint(3)))


def test_what_is_committed_waits_no_more() -> None:
    position = taken(None)
    position.track_uncommitted(100, exists=True)
    assert position.uncommitted_s(101) == 1
    position.on_finalized(10, checkpoint(1))
    assert (position.last_saved, position.uncommitted_s(102)) == ((10, 0), 0)
    assert position.is_saved(10, 0)


def test_how_long_something_waits_to_be_committed() -> None:
    position = taken(None)
    position.track_uncommitted(100, exists=False)
    assert position.uncommitted_s(150) == 0
    for now_s in (200, 201):  # what comes later is younger
        position.track_uncommitted(now_s, exists=True)
    assert position.uncommitted_s(203) == 3
    position.on_snapshot_done(snapshot(10, taken_s=201), committed=True)
    assert position.uncommitted_s(203) == 2
    position.track_uncommitted(204, exists=False)
    assert position.uncommitted_s(9999) == 0, "a quiet night"
