"""How a recorded file becomes a finished one: the steps of law 4, in their order.

Every step may be repeated, and a kill between any two of them is repaired by doing them all again: the commit with
`closing` is made before the first that others can see, the one without it after the last.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from confluent_kafka import KafkaException
from msgspec.structs import replace
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, wait_fixed

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint, Partial, encode
from archiver.core.events import Event, FileFinished, RecordsLost
from archiver.core.segmentation import closed
from archiver.kafka.offset_commits import Commit
from archiver.recording.finalizer_status import FinishingProgress
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from archiver.storage import sha256sums
from g3stream.service.cancellation import Abandoned

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_SAY_AGAIN_ATTEMPTS = 60


class Ledger(Protocol):
    """What Kafka keeps for us; the Feed."""

    def commit(self, commits: Sequence[Commit]) -> None:
        """As Feed.commit."""

    def tell(self, event: Event) -> None:
        """As Feed.tell."""

    def last_file(self, stream: str, abandoned: Abandoned) -> FileFinished | None:
        """As Feed.last_file."""


def finish(
    archive: ArchiveRoot,
    ledger: Ledger,
    offset: int,
    checkpoint: Checkpoint,
    file: SegmentFile | None,
    losses: Sequence[RecordsLost],
    abandoned: Abandoned,
    progress: FinishingProgress,
) -> Checkpoint:
    """Finish the checkpoint's open file; gives the checkpoint to go on from, committed at `offset`.

    file: of a live recording, whose checkpoint lacks the digest yet; None after a restart in the middle of this,
    when the checkpoint is the one that was committed. Tries each step until it succeeds. Raises
    PartialDamagedError if the partial isn't what was committed, SyncError if the disk didn't take it, AbandonedError
    once `abandoned` is set, FencedError, EvictedError.
    """
    stream = checkpoint.state.stream
    assert checkpoint.partial
    path = checkpoint.partial.path

    def persist(what: str, act: Callable[[], T]) -> T:
        progress.begin(what)
        return _persist(stream, f"{what} {path}", act, abandoned, progress)

    if file:
        for loss in losses:  # first: if the partial turns out to be damaged, it need not show again
            persist("telling a loss before", partial(ledger.tell, loss))
        checkpoint = _with_digest(checkpoint, file, persist)
        closing_commit = Commit(stream, offset, encode(checkpoint), abandoned)
        persist("committing the end of", lambda: ledger.commit([closing_commit]))
    recorded, closing = checkpoint.partial, checkpoint.closing
    assert recorded
    assert closing
    if not file:
        persist("checking", lambda: _check(archive, stream, recorded, closing.sha256, abandoned))
    length, sha256 = recorded.length, closing.sha256
    name = persist("publishing", lambda: archive.publish(stream, recorded.name, path, length, sha256, abandoned))
    if name is None:
        told = persist("looking for the event of", lambda: ledger.last_file(stream, abandoned))
        if not told or told.sha256 != closing.sha256 or told.closing != closing.record:
            raise PartialDamagedError("neither it nor the finished file is there")
        log.error("%s: %s was finished as %s, and has been taken away since", stream, path, told.path)
        after = _after(checkpoint, recorded, told.path)
    else:
        if name != path:
            log.error("%s: %s is another file's name already; this one is %s", stream, path, name)
        after = _after(checkpoint, recorded, name)
        _tell(archive, ledger, offset, checkpoint, after, name, persist)
    persist("tidying up after", lambda: archive.discard(stream, recorded.name))
    final_commit = Commit(stream, offset, encode(after), abandoned)
    persist("committing", lambda: ledger.commit([final_commit]))
    try:
        archive.discard_copies(stream, recorded)
    except OSError as error:  # they are removed when the stream is taken up the next time
        log.warning("%s: can't look for other partials of %s: %s", stream, path, error)
    log.info(
        "%s: finished %s (%s): %d frames, %.1f MB",
        stream,
        name or path,
        closing.why,
        recorded.frames,
        recorded.length / 1e6,
    )
    return after


class _Persist(Protocol):
    def __call__(self, what: str, act: Callable[[], T]) -> T: ...


def _with_digest(checkpoint: Checkpoint, file: SegmentFile, persist: _Persist) -> Checkpoint:
    """Make the file durable; gives the checkpoint with its digests."""
    closing = checkpoint.closing
    assert closing
    persist("making durable", file.make_durable)
    sha256 = persist("reading back", file.sha256)
    return replace(checkpoint, closing=replace(closing, sha256=sha256, md5=file.md5))


def _tell(
    archive: ArchiveRoot,
    ledger: Ledger,
    offset: int,
    checkpoint: Checkpoint,
    after: Checkpoint,
    name: str,
    persist: _Persist,
) -> None:
    event = _event(archive, offset, checkpoint, after, name)
    persist("adding to SHA256SUMS", lambda: archive.add_sum(event.stream, name, event.sha256))
    persist("telling of", lambda: ledger.tell(event))


def _check(archive: ArchiveRoot, stream: str, recorded: Partial, sha256: str, abandoned: Abandoned) -> None:
    """After a restart the partial may be gone, as its last step; if it is there, it must be what was committed."""
    with archive.private(stream) as private:
        found = private.stat(recorded.name)
        if found is None:
            return
        if not private.is_file(recorded.name):
            raise PartialDamagedError("it is no file")
        if found.st_size != recorded.length or sha256sums.digest(private, recorded.name, abandoned) != sha256:
            raise PartialDamagedError(f"its {found.st_size} bytes aren't the {recorded.length} that were committed")


def _after(checkpoint: Checkpoint, recorded: Partial, name: str) -> Checkpoint:
    number = int(name.removesuffix(".g3").rpartition("_")[2])
    carry = {
        code: replace(place, path=name) if place.path == recorded.path else place
        for code, place in checkpoint.carry.items()
    }
    return replace(
        checkpoint,
        state=closed(checkpoint.state, number),
        files=checkpoint.files + 1,
        carry=carry,
        partial=None,
        closing=None,
    )


def _event(archive: ArchiveRoot, offset: int, checkpoint: Checkpoint, after: Checkpoint, name: str) -> FileFinished:
    acquisition, recorded, closing = checkpoint.state.acquisition, checkpoint.partial, checkpoint.closing
    assert acquisition
    assert recorded
    assert closing
    return FileFinished(
        group=archive.group,
        stream=checkpoint.state.stream,
        path=name,
        number=after.files,
        id=acquisition.id,
        start=acquisition.start,
        suffix=after.state.names.number,
        settings=acquisition.settings,
        why=closing.why,
        frames=recorded.frames,
        bytes=recorded.length,
        sha256=closing.sha256,
        carry=recorded.carry,
        first=recorded.first,
        last=recorded.last,
        closing=closing.record,
        offset=offset,
        checkpoint=after,
        host=archive.host,
        missing=checkpoint.state.file.missing if checkpoint.state.file else 0,
        md5=closing.md5,
    )


def _persist(stream: str, what: str, act: Callable[[], T], abandoned: Abandoned, progress: FinishingProgress) -> T:
    def say(state: RetryCallState) -> None:
        assert state.outcome
        if error := state.outcome.exception():
            progress.failed(error)
        if state.attempt_number % _SAY_AGAIN_ATTEMPTS == 1:
            log.error("%s: %s: %s; still trying", stream, what, state.outcome.exception())
        abandoned.check(f"{stream}: {what}")

    abandoned.check(f"{stream}: {what}")
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, OSError | KafkaException) and not isinstance(e, SyncError)),
        reraise=True,
        wait=wait_fixed(_RETRY_SECONDS),
        sleep=sleep_using_event(abandoned),
        before_sleep=say,
    )
    return retrying(act)
