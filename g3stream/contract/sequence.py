"""The sequence of a stream's records: assembles chunks, drops duplicates, detects losses.

Pure: no I/O, no clock. The rules are the design's ("Identity", "Chunks"). ingest publishes every record at least
once, in order; epoch and seq make it exactly once here. Offsets are only remembered, never compared: that each offset
is accepted once, in order, is ensured by delivery_order.py.

Duplicates are recognized however many epochs there are. An ingest that is killed publishes its spool again, from the
first record: in a crash loop, or after an outage, that may be hundreds of epochs. The last seq is remembered of the
epochs with the most recent records, and of the latest epoch of each spool: a spool may be continued after months,
when a spare host had been used meanwhile. Of all other epochs only the latest of each spool is known (`forgotten`).
The epochs of one spool are ordered (g3stream/contract/producer_epoch.py): an epoch that isn't remembered, and isn't
later than that one, has been seen, and is complete, as an epoch ends for good when the next begins.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from g3stream.contract.headers import RecordHeaders
from g3stream.contract.producer_epoch import mark_of

EPOCHS_REMEMBERED = 32
MAX_SPOOLS = 4
"""Spools whose latest epoch, and latest forgotten epoch, is kept: those with the most recent records."""
GIVE_UP_BYTES = 1 << 30
"""An incomplete record is given up after so many bytes of later records, or of its own."""
MAX_INCOMPLETE = 32
"""Incomplete records; a killed ingest leaves one. Of more than these the oldest is given up."""
_CHUNK_OVERHEAD = 100  # bytes of memory, about, that a part takes besides its value: empty ones take some, too


class Record(NamedTuple):
    """A whole record."""

    headers: RecordHeaders
    time_ms: int
    value: tuple[bytes, ...]
    """Its bytes, in the chunks in which it was delivered."""
    offset: int
    """Of its first chunk."""

    @property
    def bytes(self) -> int:
        """The size of its value."""
        return sum(len(part) for part in self.value)


class LossCause(StrEnum):
    """Why records were lost."""

    MISSING = "missing"
    """They never arrived: ingest's spool, or its host's disk, lost them."""
    INCOMPLETE = "incomplete"
    """Only some of a record's chunks arrived."""
    SPOOL = "spool"
    """ingest's spool was new, or an older copy."""
    HOST = "host"
    """ingest's host went down without a clean shutdown."""
    DELETED = "deleted"
    """Retention deleted them before the archiver read them, or the topic was created again."""
    DISK = "disk"
    """The archiver's disk lost what had been written, and the topic no longer has it."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that are missing, or may be."""

    records: int | None
    """None if the number is unknown."""
    what: str
    """Which records, as far as is known."""
    cause: LossCause


@dataclass(slots=True)
class _Incomplete:
    headers: RecordHeaders
    offset: int
    parts: list[bytes] = field(default_factory=list)
    bytes: int = 0
    later_bytes: int = 0


Epochs = tuple[tuple[str, int], ...]
"""Epochs, each with its last seq, in the order of their latest records."""


class SequenceTracker:
    """Tracks the last seq of the epochs with the most recent records, and which epochs came before these.

    `assemble` returns a record that is complete and new. `mark_processed` marks it once it has been processed, so a
    state taken in between is the state before it.

    An operator's record leaves no trace, so that losses between the ingests before and after it are detected as if it
    weren't there: its epoch isn't remembered, an incomplete record may still be completed, and it never counts as a
    duplicate. It is accepted only as long as nothing later than its `prev` has been seen. That is enough where it is
    read again after a restart, or mirrored twice: until something later arrives, a repetition changes nothing.
    """

    def __init__(self, epochs: Sequence[tuple[str, int]] = (), forgotten: Sequence[str] = ()) -> None:
        self._last_seq = dict(epochs)  # in the order of their latest records
        self.forgotten: tuple[str, ...] = tuple(forgotten)
        """The latest epoch of each spool that is no longer remembered."""
        self._incomplete: dict[str, _Incomplete] = {}
        self.losses: list[Loss] = []
        """Losses that were detected, for the caller to report and clear."""
        self.interleaved_producers = 0
        """How often an epoch was continued after a later one had begun, as with two ingests at once."""
        self.duplicates = 0

    def epochs(self) -> Epochs:
        """The epochs to give to a new tracker, with `forgotten`, to continue from here."""
        return tuple(self._last_seq.items())

    def prepend(self, epochs: Sequence[tuple[str, int]], forgotten: Sequence[str]) -> None:
        """Add records that had been seen before the first one given to `assemble`."""
        since, self._last_seq = self._last_seq, dict(epochs)
        for epoch, seq in since.items():  # in the order of their latest records
            self._last_seq[epoch] = max(seq, self._last_seq.pop(epoch, -1))
        self.forgotten = (*forgotten, *self.forgotten)
        self._forget_oldest()

    def safe_offset(self, offset: int) -> int:
        """The offset to resume reading from: `offset`, or the first chunk of an incomplete record before it."""
        return min([offset, *(record.offset for record in self._incomplete.values())])

    def assemble(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> Record | None:
        """Add a Kafka message; returns the record that it completes, if that is new."""
        last = self._last_seq.get(headers.epoch, -1)
        if headers.seq <= last:
            self.duplicates += 1
            return None
        if last < 0:
            if headers.operator:
                return None if self._is_late(headers) else Record(headers, time_ms, (value,), offset)
            if self._is_forgotten(headers.epoch):
                self.duplicates += 1
                return None
        if self._incomplete:
            self._give_up_incomplete(headers, len(value))
        if headers.chunk == (1, 1):
            return Record(headers, time_ms, (value,), offset)
        return self._add_chunk(headers, time_ms, value, offset)

    def mark_processed(self, headers: RecordHeaders) -> None:
        """Mark a record as processed: from now on it is a duplicate."""
        epoch, seq = headers.epoch, headers.seq
        newest = next(reversed(self._last_seq), epoch)
        if epoch == newest and self._last_seq.get(epoch) == seq - 1:
            self._last_seq[epoch] = seq  # nearly always
            return
        last = self._last_seq.pop(epoch, None)
        if last is None:
            if headers.operator:
                return
            self._on_new_epoch(headers)
        else:
            if seq > last + 1:
                self._add_loss(seq - last - 1, f"{epoch}:{last + 1} to {epoch}:{seq - 1}", LossCause.MISSING)
            # An epoch ends for good when the next begins, so a new record of an older one is from another ingest.
            self.interleaved_producers += newest != epoch
        self._last_seq[epoch] = seq
        self._forget_oldest()

    def advance(self, epoch: str, seq: int) -> None:
        """Mark all records up to that seq as processed, in the epoch that was marked last."""
        self._last_seq[epoch] = seq

    @property
    def has_incomplete(self) -> bool:
        """Whether some chunks of a record have arrived, but not all."""
        return bool(self._incomplete)

    def _is_late(self, headers: RecordHeaders) -> bool:
        """Whether anything later than an operator's record's `prev` has been seen."""
        assert headers.prev
        epoch, seq = headers.prev
        last = self._last_seq.get(epoch)
        if last is None:
            return self._is_forgotten(epoch)
        return last > seq or epoch != next(reversed(self._last_seq))

    def _is_forgotten(self, epoch: str) -> bool:
        """Whether an epoch that isn't remembered has been seen."""
        return any(mark_of(epoch) == mark_of(latest) and epoch <= latest for latest in self.forgotten)

    def _forget_oldest(self) -> None:
        epochs, self.forgotten = without_oldest(self.epochs(), self.forgotten, EPOCHS_REMEMBERED)
        if len(epochs) < len(self._last_seq):
            self._last_seq = dict(epochs)

    def _on_new_epoch(self, headers: RecordHeaders) -> None:
        if not self._last_seq:
            return  # the first one known of this stream
        if headers.seq > 0:
            self._add_loss(headers.seq, f"{headers.epoch}:0 to {headers.epoch}:{headers.seq - 1}", LossCause.MISSING)
        elif headers.prev is None:
            what = f"epoch {headers.epoch} begins a new spool; the last records of the one before may be lost"
            self._add_loss(None, what, LossCause.SPOOL)
        else:
            epoch, last = headers.prev
            seen = self._last_seq.get(epoch)
            if seen is None:
                self._add_loss(
                    None, f"epoch {headers.epoch} follows {epoch}, of which nothing is known here", LossCause.MISSING
                )
            elif last > seen:
                self._add_loss(last - seen, f"{epoch}:{seen + 1} to {epoch}:{last}", LossCause.MISSING)
            elif last < seen:
                what = f"ingest's spool had gone back to {epoch}:{last}; {epoch}:{seen} is known here"
                self._add_loss(None, what, LossCause.SPOOL)
            elif epoch != (newest := next(reversed(self._last_seq))):
                # An older copy of the spool, of a time between two epochs.
                what = f"ingest's spool had gone back to {epoch}; {newest} is known, its last records may be lost"
                self._add_loss(None, what, LossCause.SPOOL)
        if headers.unclean:
            what = "the ingest host went down without a clean shutdown; records of its last second may be lost"
            self._add_loss(None, what, LossCause.HOST)

    def _add_chunk(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> Record | None:
        k, n = headers.chunk
        record = self._incomplete.get(headers.epoch)
        if record is None or record.headers.seq != headers.seq:
            if k > 1:
                return None  # its first chunks are gone; the jump in seq reveals the loss
            if len(self._incomplete) >= MAX_INCOMPLETE:
                self._give_up(next(iter(self._incomplete.values())))
            record = self._incomplete[headers.epoch] = _Incomplete(headers, offset)
        have = len(record.parts)
        if k <= have:
            self.duplicates += 1
            return None
        if k > have + 1 or n != record.headers.chunk[1]:
            self._give_up(record)
            return None
        record.parts.append(value)
        record.bytes += len(value) + _CHUNK_OVERHEAD
        if k < n:
            if record.bytes > GIVE_UP_BYTES:
                self._give_up(record)
            return None
        del self._incomplete[headers.epoch]
        return Record(record.headers, time_ms, tuple(record.parts), record.offset)

    def _give_up_incomplete(self, headers: RecordHeaders, size: int) -> None:
        """Give up incomplete records once a later one of their epoch, or the first of its successor, has arrived."""
        for epoch, record in list(self._incomplete.items()):
            seq = record.headers.seq
            if epoch == headers.epoch and headers.seq <= seq:
                continue
            record.later_bytes += size
            succeeded = headers.prev is not None and headers.prev[0] == epoch
            if epoch == headers.epoch or succeeded or record.later_bytes > GIVE_UP_BYTES:
                self._give_up(record)

    def _give_up(self, record: _Incomplete) -> None:
        """Report a record as lost, with what is missing before it in its epoch; from now on it counts as seen."""
        epoch, seq = record.headers.epoch, record.headers.seq
        del self._incomplete[epoch]
        last = self._last_seq.get(epoch, -1 if self._last_seq else seq - 1)
        if last >= seq:
            return  # it has arrived whole, too: no ingest of ours splits a record sometimes, and sometimes not
        what = f"{epoch}:{last + 1} to {epoch}:{seq}; of the last only {len(record.parts)} chunks came"
        self._add_loss(seq - last, what, LossCause.INCOMPLETE)
        if epoch in self._last_seq:
            self._last_seq[epoch] = seq
        else:
            epochs, self.forgotten = without_oldest(self.epochs(), self.forgotten, EPOCHS_REMEMBERED - 1)
            self._last_seq = {epoch: seq, **dict(epochs)}  # not as the newest: it isn't

    def _add_loss(self, records: int | None, what: str, cause: LossCause) -> None:
        self.losses.append(Loss(records, what, cause))


def first_complete(messages: Iterable[tuple[RecordHeaders, bytes]]) -> tuple[bytes, ...]:
    """The value, in chunks, of the record that begins with the first of these messages; empty if it isn't complete.

    Between its chunks there may be other messages, and repeated chunks, as after a kill of ingest.
    """
    seen, first = SequenceTracker(), None
    for headers, value in messages:
        first = first or headers
        record = seen.assemble(headers, 0, value, 0)
        if record and (headers.epoch, headers.seq) == (first.epoch, first.seq):
            return record.value if first.chunk[0] == 1 else ()
    return ()


def without_oldest(epochs: Epochs, forgotten: Sequence[str], most: int) -> tuple[Epochs, tuple[str, ...]]:
    """Drop the oldest epochs, so that at most `most` remain; returns these, and the forgotten ones.

    Kept are those with the latest records, and the latest of each spool. Forgotten are, of each spool that is still
    remembered, the latest dropped one.
    """
    excess = len(epochs) - most
    if excess <= 0:
        return epochs, _latest_of_each(forgotten, epochs)
    latest = {mark_of(epoch): epoch for epoch, _ in epochs}  # in the order of the spools' first records here
    newest_last = sorted(latest.values(), key=[epoch for epoch, _ in epochs].index)
    keep = set(newest_last[-min(MAX_SPOOLS, most) :]) if most > 0 else set()
    dropped = dict([(epoch, seq) for epoch, seq in epochs if epoch not in keep][:excess])
    kept = tuple((epoch, seq) for epoch, seq in epochs if epoch not in dropped)
    return kept, _latest_of_each((*forgotten, *dropped), kept)


def _latest_of_each(forgotten: Iterable[str], remembered: Epochs) -> tuple[str, ...]:
    marks = {mark_of(epoch) for epoch, _ in remembered}
    latest: dict[str, str] = {}
    for epoch in forgotten:
        if (mark := mark_of(epoch)) in marks:
            latest[mark] = max(epoch, latest.pop(mark, epoch))
    return tuple(latest.values())[-MAX_SPOOLS:]


def epoch_changes(since: Sequence[tuple[str, int]], now: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The changes that `roll_back` needs to come from `now` back to `since`: -1 for an epoch that wasn't there.

    Of the epochs that have been forgotten since, only the newest is needed: it may have continued after `since`.
    """
    before: Mapping[str, int] = dict(since)
    changed = {epoch: before.get(epoch, -1) for epoch, seq in now if before.get(epoch, -1) != seq}
    if since and since[-1][0] not in dict(now):
        changed[since[-1][0]] = since[-1][1]
    return changed


def roll_back(now: Sequence[tuple[str, int]], changed: Mapping[str, int]) -> Epochs:
    """The epochs as they were before `changed`, except those that have been forgotten since."""
    there = dict(now)
    forgotten = [(epoch, seq) for epoch, seq in changed.items() if epoch not in there]
    # What was forgotten was the newest (see `epoch_changes`).
    return (*((epoch, seq) for epoch, last in now if (seq := changed.get(epoch, last)) >= 0), *forgotten)


def forgotten_before(epochs: Epochs, forgotten: Sequence[str]) -> tuple[str, ...]:
    """The forgotten epochs that came before these epochs, which `roll_back` returned."""
    newest: dict[str, str] = {}
    for epoch, _ in epochs:
        newest[mark_of(epoch)] = max(epoch, newest.get(mark_of(epoch), epoch))
    return tuple(min(epoch, newest[mark_of(epoch)]) for epoch in forgotten if mark_of(epoch) in newest)
