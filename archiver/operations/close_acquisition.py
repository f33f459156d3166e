"""The command `archiver close`: ends an acquisition whose ingest died and can't report its end.

It publishes a record in the stream's topic (kind `lost`, header `by`: g3stream/contract/headers.py), so that every
archiver, and every replay, closes the same file at the same place.
"""

import argparse
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archiver.console.runner import CommandError, print_out, with_kafka
from archiver.core.formatting import format_time
from archiver.core.segmentation import NOT_RECORDED_TYPES
from archiver.kafka.publication import OutgoingMessage, publish
from archiver.kafka.topic_reader import TopicReader
from archiver.kafka.topic_tail import TailRecord, open_tails
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import SequenceTracker
from g3stream.contract.topics import frames_topic
from g3stream.host.durations import format_duration
from g3stream.host.environment import now_ms

_GROUP = "archiver-close"
"""For a consumer that commits nothing."""
_ALIVE_MS = 10_000
"""If the last record is younger, ingest is alive: while connected it publishes at least one each second."""
_WATCH_SECONDS = 3.0
"""A record that comes within this time shows a live ingest, whatever its host's clock says."""
_ENOUGH_RECORDS = 1000
"""How many records are read back: usually more than the next ingest repeats after one was killed."""


@with_kafka
def close(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/close.py); return its exit code."""
    stream, why = options.stream, options.why
    reader = TopicReader(config, _GROUP)
    with open_tails(reader) as tails:
        streams = tails.streams()
        if stream not in streams:
            reader.check_not_hidden([stream])
            raise CommandError(f"there is no stream {stream}; there are: {', '.join(streams) or 'none'}")
        spans = tails.offset_ranges([stream])
        left_out = reader.quarantined_digests(stream)
        read_back = tails.read_back(spans, lambda _, entries: _is_enough(_recorded_frames(entries, left_out)))[stream]
        entries = _recorded_frames(read_back, left_out)
        found = situation(entries)
        decisive = found.newest_fact
        if decisive and decisive.headers is None:
            raise CommandError(
                f"the record at offset {decisive.offset} can't be understood, so {stream} isn't recorded"
            )
        if decisive is None or found.last is None or (decisive.headers and decisive.headers.kind is not Kind.FRAME):
            print_out(f"{stream}: nothing to close: {_nothing_open_message(decisive)}")
            return 0
        newest = entries[-1].time_ms
        age = now_ms() - newest
        if abs(age) < _ALIVE_MS:
            raise CommandError(
                f"an ingest of {stream} is alive: its last record is {format_duration(age)} old. Stop it; if it "
                f"is stopped already, wait {_ALIVE_MS // 1000} s"
            )
        time.sleep(_WATCH_SECONDS)
        if tails.offset_ranges([stream])[stream][1] > spans[stream][1]:
            raise CommandError(
                f"an ingest of {stream} is alive: a record has just come (the one before is of "
                f"{format_time(newest)} UTC; do the clocks agree?)"
            )
    headers = RecordHeaders(Kind.LOST, secrets.token_hex(8), 0, why=why, prev=found.last, operator=True)
    offset = publish(config, frames_topic(stream), [OutgoingMessage(b"", None, headers.to_text(), now_ms())])
    if offset != spans[stream][1]:
        raise CommandError(
            f"an ingest of {stream} is alive: it published a record just before ours, so ours has no effect"
        )
    print_out(
        f"{stream}: closed after its last record, of {format_time(newest)} UTC ({format_duration(age)} ago): "
        f"published the end of its acquisition at offset {offset} of {frames_topic(stream)}: {why}"
    )
    print_out(
        "Unless the open file is finished already, its archivers finish it now, or as soon as they run "
        "(closed: disconnected). The next frame begins a new acquisition."
    )
    return 0


@dataclass(frozen=True, slots=True)
class Situation:
    """What an archiver knows at the end of a stream's topic."""

    newest_fact: TailRecord | None = None
    """The last record that shows whether an acquisition is open: any but `quiet`.

    (`quiet` may end one, too, but after a gap by each archiver's settings.)
    """
    last: tuple[str, int] | None = None
    """Producer epoch and seq of the last record."""


def situation(entries: Sequence[TailRecord]) -> Situation:
    """Return the situation after these records, without those that archivers drop, such as duplicates."""
    seen = SequenceTracker()
    decisive = None
    for entry in entries:
        headers = entry.headers
        if headers is None:
            decisive = entry
        elif record := seen.assemble(headers, entry.time_ms, b"", entry.offset):
            seen.mark_processed(record.headers)
            if not (
                headers.kind is Kind.QUIET or (headers.kind is Kind.FRAME and headers.type in NOT_RECORDED_TYPES)
            ):
                decisive = entry
    return Situation(decisive, next(reversed(seen.epochs()), None))


def _recorded_frames(entries: Sequence[TailRecord], left_out: Collection[str]) -> list[TailRecord]:
    """Return the records that aren't in quarantine."""
    return [entry for entry in entries if entry.digest not in left_out]


def _is_enough(entries: Sequence[TailRecord]) -> bool:
    return len(entries) >= _ENOUGH_RECORDS and situation(entries).newest_fact is not None


def _nothing_open_message(last: TailRecord | None) -> str:
    if last is None or last.headers is None:
        return "it has no frames"
    why = f" ({last.headers.why})" if last.headers.why else ""
    return (
        f"no acquisition is open since {last.headers.kind.shown}{why}, {format_duration(now_ms() - last.time_ms)} ago"
    )
