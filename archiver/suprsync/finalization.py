"""Finalization: determines, again and again, up to which time an archive is final (finalized_until.py).

It reads this from Kafka, beside the recording: the commits of the archive's group have, for every stream and
whichever archiver records it, the open file and the records that wait. Only the archiver that hands the archive's
events over does it.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from confluent_kafka import KafkaException

from archiver.core.checkpoint import Checkpoint, CheckpointError, decode
from archiver.kafka.topic_reader import OffsetAndMetadata, TopicReader
from archiver.kafka.topic_tail import TailRecord, open_tails
from archiver.suprsync.finalized_until import FinalizedUntil, Promotion, StreamProgress, directory_of, finalized_until
from g3stream.contract.headers import Kind
from g3stream.host.environment import now_ms

log = logging.getLogger(__name__)

_POLL_S = 1.0
_REQUEST_S = 10.0
_STOP_S = 2.0


class Finalization:
    """Determines it in a thread of its own, within the context `running`.

    config: librdkafka's settings. group: the archive's. streams: those that it records, None: all. found: called in
    the thread with each new result; its exceptions are logged.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        group: str,
        streams: Collection[str] | None,
        found: Callable[[FinalizedUntil], None],
    ) -> None:
        self.latest: FinalizedUntil | None = None
        """The latest result; None if there is none yet, or another archiver does this. For any thread."""
        self.problem: str | None = None
        """Why it can't be determined now; None if it can. For any thread."""
        self._read = partial(read, config, group, streams)
        self._found = found
        self._stopping = threading.Event()

    @contextmanager
    def running(self, position: Callable[[], int | None]) -> Iterator[None]:
        """Context in which it is determined. position: returns FollowerStatus.position."""
        thread = threading.Thread(target=self._run, args=(position,), name="finalization", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(_STOP_S)

    def _run(self, position_of: Callable[[], int | None]) -> None:
        promotion = Promotion()
        ask_at_s = 0.0
        while not self._stopping.is_set():
            try:
                if position_of() is not None and promotion.wants_another and time.monotonic() >= ask_at_s:
                    ask_at_s = time.monotonic() + _REQUEST_S
                    promotion.add(*self._read(now_ms()))
                position = position_of()
                if position is None:
                    self.latest = self.problem = None  # reported by the archiver that hands over now
                if found := promotion.reached(position):
                    self._found(found)
                    self.latest = found
                    if self.problem is not None:
                        log.info("finalized_until is updated again")
                    self.problem = None
            except Exception as error:  # noqa: BLE001 - whatever it is, this must continue, as recording does
                self._on_error(error)
            self._stopping.wait(_POLL_S)

    def _on_error(self, error: Exception) -> None:
        """Note an error; it is logged if there was none before."""
        is_new, is_expected = self.problem is None, isinstance(error, KafkaException | CheckpointError)
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        self.problem = text if is_expected else f"{type(error).__name__}: {text}"
        if is_new:
            log.warning(
                *("finalized_until can't be updated: %s; still trying", self.problem),
                exc_info=None if is_expected else error,
            )


def read(
    config: Mapping[str, Any], group: str, streams: Collection[str] | None, now_ms: int
) -> tuple[FinalizedUntil, int]:
    """Return up to when the archive is final, and up to which offset of g3.files events must be handed over first.

    now_ms: the time before the call. Raises KafkaException, CheckpointError.
    """
    reader = TopicReader(config, group)
    with open_tails(reader) as tails:
        topics = list(tails.streams())
        # In this order: later commits only move the time forward.
        commits = reader.committed(topics)
        wanted = [stream for stream in topics if stream in commits or streams is None or stream in streams]
        spans = tails.offset_ranges(wanted)
        checkpoints = {s: decode(c.metadata, s) for s, c in commits.items() if s in spans and c.metadata}
        next_offsets = {s: _next_offset(span, commits.get(s)) for s, span in spans.items()}
        next_ones = tails.read({s: (at, at + 1) for s, at in next_offsets.items() if at < spans[s][1]})
        # The last record matters only for streams with no open file and no waiting record.
        idle = {s: spans[s] for s in spans if not next_ones.get(s) and not _is_open(checkpoints.get(s))}
        last_ones = tails.read_back(idle, bool)
    progress = [_progress(s, checkpoints.get(s), next_ones.get(s), last_ones.get(s)) for s in wanted]
    # A file's event is published before the commit in which it is no longer open.
    _, files_end = reader.files_offset_range()
    return finalized_until(now_ms, progress), files_end


def _next_offset(span: tuple[int, int], commit: OffsetAndMetadata | None) -> int:
    """Return the offset of the first record that isn't archived.

    The topic may have been created again, or have had records deleted.
    """
    first, end = span
    return first if commit is None or commit.offset > end else max(first, commit.offset)


def _is_open(checkpoint: Checkpoint | None) -> bool:
    return checkpoint is not None and checkpoint.partial is not None


def _progress(
    stream: str,
    checkpoint: Checkpoint | None,
    next_ones: Sequence[TailRecord] | None,
    last_ones: Sequence[TailRecord] | None,
) -> StreamProgress:
    last = last_ones[-1] if last_ones else None
    return StreamProgress(
        stream,
        open_since_ms=checkpoint.partial.first.time if checkpoint and checkpoint.partial else None,
        waiting_since_ms=next_ones[0].time_ms if next_ones else None,
        last_ms=last.time_ms if last else None,
        is_connected=bool(last and not (last.headers and last.headers.kind is Kind.LOST)),
        directory=directory_of(checkpoint) if checkpoint else None,
    )
