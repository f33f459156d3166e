"""What has been seen of a stream's records: puts chunks together, drops duplicates, notices losses.

Pure: no I/O, no clock. The rules are the design's ("Identity", "Chunks"). ingest publishes every record at least
once, in order; epoch and seq make it exactly once here. Offsets are only remembered, never compared: that Kafka's
client delivers each offset once, in order, is delivery_order.py's to see to.

Duplicates don't depend on how many epochs are remembered. An ingest that is killed publishes its spool once more,
from its first record on: in a crash loop, or after an outage, that may be hundreds of epochs. Of those with the most
recent records the last seq is remembered, and that of each spool's latest one: a spool may be gone on with after
months, when a spare host had taken over. Of all others only the latest of each spool is known (`forgotten`), as the
epochs of one spool have an order (g3stream/contract/producer_epoch.py): one that isn't remembered and isn't later
than that has been seen, and is complete, as an epoch ends for good when the next begins.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from g3stream.contract.headers import RecordHeaders
from g3stream.contract.producer_epoch import mark_of

EPOCHS_REMEMBERED = 32
MAX_SPOOLS = 4
"""So many spools, those with the most recent records, keep their latest epoch, and what of theirs is forgotten."""
GIVE_UP_BYTES = 1 << 30
"""An incomplete record is given up after that many bytes of later records, or of its own."""
MAX_INCOMPLETE = 32
"""Killed ingests leave one each; if there are more, the oldest is given up."""
_CHUNK_OVERHEAD = 100  # bytes that a part takes besides its value, about: empty ones take memory, too


class Record(NamedTuple):
    """A whole record. time_ms: ms. value: its bytes, in the parts they came in. offset: of its first chunk."""

    headers: RecordHeaders
    time_ms: int
    value: tuple[bytes, ...]
    offset: int

    @property
    def bytes(self) -> int:
        """How many bytes its value has."""
        return sum(len(part) for part in self.value)


class LossCause(StrEnum):
    """What took records away."""

    MISSING = "missing"
    """They never came: ingest's spool, or its host's disk, didn't give them back."""
    INCOMPLETE = "incomplete"
    """Some of a record's chunks came."""
    SPOOL = "spool"
    """ingest's spool was new, or an older copy."""
    HOST = "host"
    """ingest's host went down unasked."""
    DELETED = "deleted"
    """The topic's retention was faster than the archiver, or the topic was made anew."""
    DISK = "disk"
    """The archiver's lost what it had taken, and the topic can't give it again."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Records that are missing, or may be. records: how many; None if that can't be known."""

    records: int | None
    what: str
    cause: LossCause


@dataclass(slots=True)
class _Incomplete:
    headers: RecordHeaders
    offset: int
    parts: list[bytes] = field(default_factory=list)
    bytes: int = 0
    later_bytes: int = 0


Epochs = tuple[tuple[str, int], ...]
"""Epochs and the last seq of each, in the order of their latest records."""


class SequenceTracker:
    """The last seq of each of the epochs with the most recent records, and which epochs came before those.

    forgotten: the latest epoch of each spool that isn't remembered any more.

    `assemble` gives a record that is complete and new; once it has been stepped, `mark_processed` marks it, so that a
    state taken in between is the state before it. Losses noticed on the way are appended to `losses`, for the caller
    to tell and clear. interleaved_producers: how often an epoch went on after a later one had begun, as with two
    ingests at once.

    An operator's record passes through without a trace, so that what is said of the ingests before and after it is
    the same without it: its epoch isn't remembered, what is incomplete may still be completed, and it is no
    duplicate. It is taken only as long as nothing later than its `prev` has been seen. What makes that enough, where
    it is read once more after a restart, or mirrored twice: until something later comes, it changes nothing more.
    """

    def __init__(self, epochs: Sequence[tuple[str, int]] = (), forgotten: Sequence[str] = ()) -> None:
        self._last_seq = dict(epochs)  # in the order of their latest records
        self.forgotten: tuple[str, ...] = tuple(forgotten)
        self._incomplete: dict[str, _Incomplete] = {}
        self.losses: list[Loss] = []
        self.interleaved_producers = 0
        self.duplicates = 0

    def epochs(self) -> Epochs:
        """What the constructor takes, with `forgotten`, to go on from here."""
        return tuple(self._last_seq.items())

    def prepend(self, epochs: Sequence[tuple[str, int]], forgotten: Sequence[str]) -> None:
        """These records had been seen, too, before the first that was given to `assemble` here."""
        since, self._last_seq = self._last_seq, dict(epochs)
        for epoch, seq in since.items():  # in the order of their latest records
            self._last_seq[epoch] = max(seq, self._last_seq.pop(epoch, -1))
        self.forgotten = (*forgotten, *self.forgotten)
        self._forget_oldest()

    def safe_offset(self, offset: int) -> int:
        """`offset`, or the first chunk of an incomplete record before it: reading must go on from there."""
        return min([offset, *(record.offset for record in self._incomplete.values())])

    def assemble(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> Record | None:
        """Take what one Kafka message holds; gives the record that it completes, if that hasn't been seen."""
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
        """This record has been stepped: from now on it is a duplicate."""
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
            # An epoch ends for good when the next begins, so a new record of an older one is another ingest's.
            self.interleaved_producers += newest != epoch
        self._last_seq[epoch] = seq
        self._forget_oldest()

    def advance(self, epoch: str, seq: int) -> None:
        """After a record that was marked last, all up to that seq of its epoch have been stepped."""
        self._last_seq[epoch] = seq

    @property
    def has_incomplete(self) -> bool:
        """Whether some of a record's chunks have come, and not all."""
        return bool(self._incomplete)

    def _is_late(self, headers: RecordHeaders) -> bool:
        """Whether something later has been seen than the record that an operator's follows."""
        assert headers.prev
        epoch, seq = headers.prev
        last = self._last_seq.get(epoch)
        if last is None:
            return self._is_forgotten(epoch)
        return last > seq or epoch != next(reversed(self._last_seq))

    def _is_forgotten(self, epoch: str) -> bool:
        """Whether that epoch, which isn't remembered, has been seen."""
        return any(mark_of(epoch) == mark_of(latest) and epoch <= latest for latest in self.forgotten)

    def _forget_oldest(self) -> None:
        epochs, self.forgotten = without_oldest(self.epochs(), self.forgotten, EPOCHS_REMEMBERED)
        if len(epochs) < len(self._last_seq):
            self._last_seq = dict(epochs)

    def _on_new_epoch(self, headers: RecordHeaders) -> None:
        if not self._last_seq:
            return  # the first that is known of this stream
        if headers.seq > 0:
            self._add_loss(headers.seq, f"{headers.epoch}:0 to {headers.epoch}:{headers.seq - 1}", LossCause.MISSING)
        elif headers.prev is None:
            what = f"epoch {headers.epoch} names no predecessor: its spool was new; a tail may be lost"
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
                what = f"ingest's spool had gone back to {epoch}; {newest} is known here, and its tail may be lost"
                self._add_loss(None, what, LossCause.SPOOL)
        if headers.unclean:
            what = "the ingest host went down unasked; records of its last second may be lost"
            self._add_loss(None, what, LossCause.HOST)

    def _add_chunk(self, headers: RecordHeaders, time_ms: int, value: bytes, offset: int) -> Record | None:
        k, n = headers.chunk
        record = self._incomplete.get(headers.epoch)
        if record is None or record.headers.seq != headers.seq:
            if k > 1:
                return None  # its first chunks are gone; the jump in seq tells
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
        """An incomplete record stays incomplete once a later one of its epoch, or a successor's first, has come."""
        for epoch, record in list(self._incomplete.items()):
            seq = record.headers.seq
            if epoch == headers.epoch and headers.seq <= seq:
                continue
            record.later_bytes += size
            succeeded = headers.prev is not None and headers.prev[0] == epoch
            if epoch == headers.epoch or succeeded or record.later_bytes > GIVE_UP_BYTES:
                self._give_up(record)

    def _give_up(self, record: _Incomplete) -> None:
        """It is lost, with what is missing before it in its epoch; from now on it counts as seen."""
        epoch, seq = record.headers.epoch, record.headers.seq
        del self._incomplete[epoch]
        last = self._last_seq.get(epoch, -1 if self._last_seq else seq - 1)
        if last >= seq:
            return  # it has come whole, too: no ingest of ours splits a record now, and then not
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
    """The value of the record that begins with the first of these messages, in its parts; empty if it isn't whole.

    Among its chunks may be others, and its own again, as after a kill of ingest.
    """
    seen, first = SequenceTracker(), None
    for headers, value in messages:
        first = first or headers
        record = seen.assemble(headers, 0, value, 0)
        if record and (headers.epoch, headers.seq) == (first.epoch, first.seq):
            return record.value if first.chunk[0] == 1 else ()
    return ()


def without_oldest(epochs: Epochs, forgotten: Sequence[str], most: int) -> tuple[Epochs, tuple[str, ...]]:
    """At most so many of the epochs, those with the latest records and the latest of each spool, and which are
    forgotten then: of each spool that is remembered still, the latest one."""
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
    """What `roll_back` needs to come from `now` back to `since`: -1 for an epoch that wasn't there.

    Of the epochs that have been forgotten since, only the newest is needed: it may have gone on after `since`.
    """
    before: Mapping[str, int] = dict(since)
    changed = {epoch: before.get(epoch, -1) for epoch, seq in now if before.get(epoch, -1) != seq}
    if since and since[-1][0] not in dict(now):
        changed[since[-1][0]] = since[-1][1]
    return changed


def roll_back(now: Sequence[tuple[str, int]], changed: Mapping[str, int]) -> Epochs:
    """The epochs as they were before `changed`, but for those that have been forgotten since."""
    there = dict(now)
    forgotten = [(epoch, seq) for epoch, seq in changed.items() if epoch not in there]
    # What was forgotten was the newest (see `epoch_changes`).
    return (*((epoch, seq) for epoch, last in now if (seq := changed.get(epoch, last)) >= 0), *forgotten)


def forgotten_before(epochs: Epochs, forgotten: Sequence[str]) -> tuple[str, ...]:
    """Which epochs were forgotten, or are now, of those that came before these, which `roll_back` gave."""
    newest: dict[str, str] = {}
    for epoch, _ in epochs:
        newest[mark_of(epoch)] = max(epoch, newest.get(mark_of(epoch), epoch))
    return tuple(min(epoch, newest[mark_of(epoch)]) for epoch in forgotten if mark_of(epoch) in newest)
