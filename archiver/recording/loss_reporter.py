"""Reporting of losses: in the log at once, on g3.files with the next commit (law 5).

A topic may have tens of thousands of gaps, and publishing an event takes 5 to 10 ms. So similar losses that are close
to each other and between two commits are published in one event (`merge_losses`). An event's key is that of its first
loss. When commits are made depends on the clock, and so does where events begin; but a commit is permanent, and the
next event begins with the first loss after it. Otherwise an event ends only where two neighbouring losses show it,
whatever was before them: at another cause, and at each full minute. So after a kill or a failed commit, events begin
at the same losses again, with the same keys; of each key, the last event counts.
"""

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from archiver.archive.root import ArchiveRoot
from archiver.core.events import FirstLoss, RecordsLost
from archiver.core.formatting import format_time
from g3stream.contract.sequence import Loss, LossCause

log = logging.getLogger(__name__)


_MERGE_MS = 60_000
"""The span of records' time in one event, so that a loss can still be found by its time. Counted from full minutes,
not from the first loss: after a kill that could be a different one, and losses under a later key would count
twice."""


def merge_losses(losses: Sequence[RecordsLost]) -> list[RecordsLost]:
    """Merge successive losses of the same cause into few events. Pure.

    Losses with a known number of records are never merged with losses of unknown size.
    """
    merged: list[RecordsLost] = []
    for loss in losses:
        before = merged[-1] if merged else None
        if before is None or not _can_merge(before, loss):
            merged.append(loss)
            continue
        first = before.first or FirstLoss(before.offset, before.until, before.what)
        times = before.times + loss.times
        merged[-1] = replace(
            loss,
            records=None if loss.records is None else loss.records + (before.records or 0),
            what=f"{times} losses, from {first.what} to {loss.what}",
            since=before.since,
            times=times,
            first=first,
        )
    return merged


def _can_merge(before: RecordsLost, loss: RecordsLost) -> bool:
    """Whether both belong in one event: by the last loss of `before`, so that it doesn't matter where that began."""
    alike = (before.cause, before.records is None) == (loss.cause, loss.records is None)
    same_minute = before.until // _MERGE_MS == loss.until // _MERGE_MS
    return alike and same_minute and before.until <= loss.until


class LossReporter:
    """Logs losses of a stream, and collects them for g3.files. Counts are since the stream was assigned."""

    def __init__(self, archive: ArchiveRoot, stream: str) -> None:
        self.unpublished: list[RecordsLost] = []
        """Losses to be published on g3.files, not merged yet (`merge_losses`)."""
        self.records = 0
        """Records known to be lost."""
        self.count = 0
        """How often records were lost."""
        self._archive = archive
        self._stream = stream

    def take_unpublished(self) -> list[RecordsLost]:
        """Return the losses to be published, merged; they won't be returned again."""
        losses, self.unpublished = merge_losses(self.unpublished), []
        return losses

    def on_published(self, count: int) -> None:
        """Drop the first losses: they are published, and that is committed."""
        del self.unpublished[:count]

    def describe_deleted(self, at: int | None, earliest: int) -> str:
        """Log that the topic no longer has the offset `at`, so that recording continues at `earliest`.

        Returns that in words, for `report`. How many records are lost, the seq of the next record shows.
        """
        what = f"offsets {at} to {earliest - 1} were deleted from the topic before they were recorded"
        if at is not None and at > earliest:
            what = f"the topic ends before offset {at}, where recording was to continue: it has been created again"
        log.error("%s: %s; continuing at offset %d", self._stream, what, earliest)
        return what

    def report(self, losses: Sequence[Loss], since_ms: int | None, until_ms: int, offset: int, deleted: str) -> None:
        """Log the losses before a record, and add them to `unpublished`.

        since_ms, until_ms: times of the record before, if known, and of that record.
        offset: the one after it.
        deleted: what was deleted before that record, in words; empty if nothing was.
        """
        for loss in losses:
            self.count += 1
            self.records += loss.records or 0
            what = f"{loss.what} ({deleted})" if deleted else loss.what
            log.error(
                "%s: LOST between %s and %s, before offset %d: %s; recording continues",
                self._stream,
                "?" if since_ms is None else format_time(since_ms),
                format_time(until_ms),
                offset,
                what,
            )
            self.unpublished.append(
                RecordsLost(
                    self._archive.group,
                    self._stream,
                    loss.records,
                    what,
                    offset,
                    since_ms,
                    until_ms,
                    self._archive.host,
                    LossCause.DELETED if deleted else loss.cause,
                )
            )
