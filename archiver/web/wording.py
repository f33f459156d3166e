"""Why a file was closed, and how records were lost, in words for an operator. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from archiver.catalog.recorded import Loss, lost_records
from archiver.core.formatting import count_noun
from archiver.core.segmentation import CloseReason
from g3stream.contract.sequence import LossCause


class _Closing(NamedTuple):
    brief: str
    whole: str


_CLOSINGS: Final[Mapping[str, _Closing]] = {
    CloseReason.START: _Closing("next START", "by the START of the next acquisition"),
    CloseReason.END: _Closing("END", "by an END from the sender"),
    CloseReason.LOST: _Closing("disconnected", "the sender's connection ended, or ingest was restarted"),
    CloseReason.GAP: _Closing("gap", "by a gap: no frames came"),
    CloseReason.TIME: _Closing(
        "time limit", "at the time limit of a file; its acquisition continues in the next file"
    ),
}
_LOSSES: Final[Mapping[str, str]] = {
    LossCause.MISSING: "ingest had them, but they never reached Kafka: its spool or a broker lost them",
    LossCause.INCOMPLETE: "Only a part of a large record arrived",
    LossCause.SPOOL: "ingest's spool was new, or an older copy: the last records of the one before may be lost",
    LossCause.HOST: "ingest's host went down without a clean shutdown: records of its last second may be lost",
    LossCause.DELETED: "Kafka deleted them before the archiver read them, or the topic was created again",
    LossCause.DISK: "The archiver's disk lost what had been written, and Kafka no longer has it",
}


def closing_brief(closed: str | None) -> str:
    """Return why a file was closed, in a word or two; empty if that is unknown. closed: as in its event."""
    found = _CLOSINGS.get(closed or "")
    return found.brief if found else ""


def closing_text(closed: str | None) -> str:
    """Return why a file was closed, in a sentence; empty if that is unknown."""
    found = _CLOSINGS.get(closed or "")
    return found.whole if found else ""


def loss_text(loss: Loss) -> str:
    """Return how records were lost, in a sentence: what is known of it, if the event has no cause."""
    text = _LOSSES.get(loss.cause or "", loss.what)
    return text + (f" ({loss.times:,} times)" if loss.times > 1 else "")


def records_text(records: int | None) -> str:
    """Return a number of records that were lost."""
    return "an unknown number of records" if records is None else count_noun(records, "record")


def missing_brief(missing: int, losses: Sequence[Loss]) -> str:
    """Return how many frames a file, or files, lack, for a table: never received, or lost later; empty if none."""
    records = lost_records(losses)
    lost = f"{'?' if records is None else f'{records:,}'} lost" if losses else ""
    return ", ".join(filter(None, (f"{missing:,}" if missing else "", lost)))


def missing_text(missing: int, losses: Sequence[Loss]) -> str:
    """Return what a file, or files, lack, in a sentence."""
    never = f"{count_noun(missing, 'frame')} never reached ingest" if missing else ""
    lost = f"{records_text(lost_records(losses))} lost after ingest had received them" if losses else ""
    return "; ".join(filter(None, (never, lost))) or "nothing"
