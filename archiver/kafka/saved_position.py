"""A saved position in g3.files, and whether it is still valid: a topic created again has other events there."""

from enum import Enum

from confluent_kafka import Message
from msgspec import Struct


class SavedPosition(Struct, frozen=True):
    """An event of g3.files that was reached: the next one to hand over, or the last one in the catalog."""

    offset: int
    time_ms: int
    """When it was published, ms since the epoch."""
    key: str
    """Its Kafka key."""

    @classmethod
    def of(cls, message: Message) -> "SavedPosition":
        """Return the position of a record of g3.files."""
        key = (message.key() or b"").decode(errors="replace")
        return cls(message.offset() or 0, message.timestamp()[1], key)


class NoPosition(Enum):
    """Why there is no position to continue from."""

    NEVER_DELIVERED = "nothing was handed over before"
    TOPIC_RECREATED = "g3.files was deleted and created again"


def resume_offset(
    committed: int | None, saved: SavedPosition | None, there: SavedPosition | None, end: int
) -> int | NoPosition:
    """Return the offset to continue from, or why there is none. Pure.

    committed: the group's committed offset. saved: the position saved in the archive. there: the event at the saved
    offset now, if there is one. end: the offset after the topic's last record.
    """
    if saved and (there not in (None, saved) or saved.offset >= end):
        return NoPosition.TOPIC_RECREATED
    if committed is not None:
        return committed
    return saved.offset if saved else NoPosition.NEVER_DELIVERED
