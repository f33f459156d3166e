"""A stream's recovery, when the host has no threads left."""

import os
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Base, Checkpoint, Partial, RecordId
from archiver.core.segmentation import State
from archiver.kafka.group_consumer import CommittedOffset, GroupConsumer
from archiver.recovery.recovery import RecoveryPool, StreamRecovery
from archiver.recovery.resume_point import ResumePoint, ResumePointSearch
from g3stream.service.cancellation import CancellationToken

FIRST = RecordId(0, "a" * 16, 0, 1_546_344_000_000)
PARTIAL = Partial("15463/x1/2019-01-01-12-00-00_000.g3", "00000000", 10, 0, 1, FIRST, FIRST, (), Base(0, State("x1")))


class Pool:
    """Runs at once what is submitted. is_exhausted: whether it can't, the next time."""

    is_exhausted = False

    def submit(self, _: str, act: Callable[[], Any], *, stateless: bool) -> Future[Any]:
        del stateless
        if self.is_exhausted:
            self.is_exhausted = False
            raise RuntimeError("can't start new thread")
        done: Future[Any] = Future()
        done.set_result(act())
        return done


def test_the_file_that_is_recorded_is_not_discarded_if_the_next_attempt_cannot_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is a copy, as a frozen archiver has the partial locked, and the commits name it by now."""
    discarded: list[str] = []
    archive = SimpleNamespace(
        location=None,
        claim=lambda _stream, alone: os.open(os.devnull, os.O_RDONLY),  # noqa: ARG005 - a keyword of the real one
        discard=lambda _stream, name: discarded.append(name),
    )
    copy = SimpleNamespace(name="a copy", path=PARTIAL.path, file=SimpleNamespace(close=lambda: None))
    point = ResumePoint(Checkpoint(State("x1"), partial=PARTIAL), 5, cast("Any", copy))
    monkeypatch.setattr(ResumePointSearch, "find", lambda *_: point)
    pool, cancellation = Pool(), CancellationToken()
    recovery = StreamRecovery(
        cast("ArchiveRoot", archive),
        cast("GroupConsumer", SimpleNamespace(topic_reader=None)),
        cast("RecoveryPool", pool),
        CommittedOffset("x1", 5, "{}"),
        cancellation,
    )
    assert recovery.poll(again=False)
    recovery.restart(CommittedOffset("x1", 6, "{}"), None)  # the disk failed to sync
    pool.is_exhausted = True
    with pytest.raises(RuntimeError, match="can't start new thread"):
        recovery.poll(again=True)
    cancellation.set()
    recovery.release(None)
    assert discarded == []
