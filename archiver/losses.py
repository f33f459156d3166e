"""Losses of a stream, said where an operator looks: in the log at once, on g3.files with the next commit (law 5)."""

import logging
from collections.abc import Sequence

from archiver.event import RecordsLost
from archiver.finishing import ArchiveRoot
from archiver.sequence import Cause, Loss
from archiver.times import moment

log = logging.getLogger(__name__)


class Losses:
    """`events` are those that are still to be told on g3.files.

    records: how many are known to be lost, times: how often any were, since this archiver took the stream.
    """

    def __init__(self, archive: ArchiveRoot, stream: str) -> None:
        self.events: list[RecordsLost] = []
        self.records = self.times = 0
        self._archive = archive
        self._stream = stream
        self._deleted = ""

    def deleted(self, at: int | None, earliest: int) -> None:
        """The topic hasn't the offset any more at which recording was to go on; it goes on at `earliest`.

        How many records are lost, if any, is for the next one's seq to show.
        """
        self._deleted = f"offsets {at} to {earliest - 1} were deleted from the topic before they were recorded"
        if at is not None and at > earliest:
            self._deleted = f"the topic ends before offset {at}, where recording was to go on: it has been made anew"
        log.error("%s: %s; going on at offset %d", self._stream, self._deleted, earliest)

    def found(self, losses: Sequence[Loss], since: int | None, until: int, offset: int) -> None:
        """A record showed these; none, if nothing is missing before it.

        since, until: ms, of the last record before, if known, and of that one. offset: after it.
        """
        deleted, self._deleted = self._deleted, ""
        for loss in losses:
            self.times += 1
            self.records += loss.records or 0
            what = f"{loss.what} ({deleted})" if deleted else loss.what
            log.error(
                "%s: LOST between %s and %s, before offset %d: %s",
                self._stream,
                "?" if since is None else moment(since),
                moment(until),
                offset,
                what,
            )
            self.events.append(
                RecordsLost(
                    self._archive.group,
                    self._stream,
                    loss.records,
                    what,
                    offset,
                    since,
                    until,
                    self._archive.host,
                    Cause.DELETED if deleted else loss.cause,
                )
            )
