"""Losses of a stream, said where an operator looks: in the log at once, on g3.files with the next commit (law 5).

A topic may have tens of thousands of holes, and an event takes 5 to 10 ms to be published. So those that show between
two commits are told together, if they are alike and close to each other (`merge_losses`). Where a commit is made
depends on the clock, and so does what is told together: but a commit is there for good, and what is told after it
begins with the first loss after it, whose key it has. Besides, an event ends only where that shows in two losses next
to each other, whatever came before them: at another cause, and at each full minute. So after a kill, or a commit that
failed, events begin again wherever one has begun, under the same keys; and of each key the last event counts.
"""

import logging
from collections.abc import Sequence

from msgspec.structs import replace

from archiver.archive.root import ArchiveRoot
from archiver.core.events import FirstLoss, RecordsLost
from archiver.core.formatting import format_time
from archiver.core.sequence import Loss, LossCause

log = logging.getLogger(__name__)


_MERGE_MS = 60_000
"""Of records' time, in one event: what is told as lost is still found by its time. Counted from full minutes, not
from the first loss: after a kill that could be another one, and what was told under a later key would count twice."""


def merge_losses(losses: Sequence[RecordsLost]) -> list[RecordsLost]:
    """These losses, as few events: those in a row become one if they have one cause, and all of them a known number
    of records, or none of them has. Pure."""
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
    """Asks of `before` only what is so of the last of its losses, too, so that it doesn't matter where it began."""
    alike = (before.cause, before.records is None) == (loss.cause, loss.records is None)
    same_minute = before.until // _MERGE_MS == loss.until // _MERGE_MS
    return alike and same_minute and before.until <= loss.until


class LossReporter:
    """`unpublished` are those that are still to be told on g3.files, each by itself: `merge_losses` before they are.

    records: how many are known to be lost, count: how often any were, since this archiver took the stream.
    """

    def __init__(self, archive: ArchiveRoot, stream: str) -> None:
        self.unpublished: list[RecordsLost] = []
        self.records = self.count = 0
        self._archive = archive
        self._stream = stream

    def describe_deleted(self, at: int | None, earliest: int) -> str:
        """The topic hasn't the offset any more at which recording was to go on; it goes on at `earliest`. Gives that
        in words, for `report`: how many records are lost, if any, is for the seq of the one at `earliest` to show.
        """
        what = f"offsets {at} to {earliest - 1} were deleted from the topic before they were recorded"
        if at is not None and at > earliest:
            what = f"the topic ends before offset {at}, where recording was to go on: it has been made anew"
        log.error("%s: %s; going on at offset %d", self._stream, what, earliest)
        return what

    def report(self, losses: Sequence[Loss], since_ms: int | None, until_ms: int, offset: int, deleted: str) -> None:
        """A record showed these; none, if nothing is missing before it.

        since_ms, until_ms: of the last record before, if known, and of that one. offset: after it.
        describe_deleted: what was deleted before that record; empty if nothing was.
        """
        for loss in losses:
            self.count += 1
            self.records += loss.records or 0
            what = f"{loss.what} ({deleted})" if deleted else loss.what
            log.error(
                "%s: LOST between %s and %s, before offset %d: %s",
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
