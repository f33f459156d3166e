"""Position in a stream that can be stored: where to continue, and which records were seen before. Pure."""

from dataclasses import dataclass
from typing import Self

import msgspec

from g3stream.client.errors import PositionError
from g3stream.contract.sequence import Epochs, SequenceTracker
from g3stream.contract.topics import ContractError, stream_name

_VERSION = 1


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A position as JSON."""

    v: int
    stream: str
    offset: int
    epochs: tuple[tuple[str, int], ...] = ()
    forgotten: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """Position in a stream, after a record. `str` makes a text of it, one line of 100 to 1,500 characters."""

    stream: str
    offset: int
    """Where reading continues: at the next record, or at the first chunk of an incomplete one before it."""
    epochs: Epochs = ()
    """The last seq seen of each producer epoch: records up to these are duplicates."""
    forgotten: tuple[str, ...] = ()
    """Epochs that came before these (contract/sequence.py)."""

    def __str__(self) -> str:
        stored = _Stored(_VERSION, self.stream, self.offset, self.epochs, self.forgotten)
        return msgspec.json.encode(stored).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the position of a text that `str` made. Raises PositionError."""
        try:
            stored = msgspec.json.decode(text, type=_Stored)
            stream_name(stored.stream)
        except (msgspec.DecodeError, UnicodeError, ContractError, RecursionError) as error:
            raise PositionError(f"this is no position in a stream: {error}") from None
        if stored.v != _VERSION or stored.offset < 0:
            raise PositionError(f"a position of version {stored.v} at offset {stored.offset}; this reads {_VERSION}")
        return cls(stored.stream, stored.offset, stored.epochs, stored.forgotten)

    def tracker(self) -> SequenceTracker:
        """Return a tracker that has seen what was seen before."""
        return SequenceTracker(self.epochs, self.forgotten)
