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
from archiver.core.segmentation import after_close
from archiver.kafka.offset_commits import OffsetCommit
from archiver.recording.finalizer_status import FinalizeProgress
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from archiver.storage import sha256sums
from g3stream.service.cancellation import CancellationToken

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_REPEAT_LOG_ATTEMPTS = 60


class EventsAndCommits(Protocol):
    """What Kafka keeps for us; the Feed."""

    def commit(self, commits: Sequence[OffsetCommit]) -> None:
        """As GroupConsumer.commit."""

    def publish(self, event: Event) -> None:
        """As GroupConsumer.publish."""

    def last_file(self, stream: str, cancellation: CancellationToken) -> FileFinished | None:
        """As GroupConsumer.last_file."""


def finalize(
    archive: ArchiveRoot,
    kafka: EventsAndCommits,
    offset: int,
    checkpoint: Checkpoint,
    file: SegmentFile | None,
    losses: Sequence[RecordsLost],
    cancellation: CancellationToken,
    progress: FinalizeProgress,
) -> Checkpoint:
    """Finish the checkpoint's open file; gives the checkpoint to go on from, committed at `offset`.

    file: of a live recording, whose checkpoint lacks the digest yet; None after a restart in the middle of this,
    when the checkpoint is the one that was committed. Tries each step until it succeeds. Raises
    PartialDamagedError if the partial isn't what was committed, SyncError if the disk didn't take it, Cancelled
    once `cancellation` is set, FencedError, MemberEvicted.
    """
    stream = checkpoint.state.stream
    assert checkpoint.partial
    path = checkpoint.partial.path

    def persist(what: str, act: Callable[[], T]) -> T:
        progress.start_step(what)
        return _retry(stream, f"{what} {path}", act, cancellation, progress)

    if file:
        for loss in losses:  # first: if the partial turns out to be damaged, it need not show again
            persist("telling a loss before", partial(kafka.publish, loss))
        checkpoint = _with_digest(checkpoint, file, persist)
        closing_commit = OffsetCommit(stream, offset, encode(checkpoint), cancellation)
        persist("committing the end of", lambda: kafka.commit([closing_commit]))
    partial_file, closing = checkpoint.partial, checkpoint.closing
    assert partial_file
    assert closing
    if not file:
        persist("checking", lambda: _check(archive, stream, partial_file, closing.sha256, cancellation))
    length, sha256 = partial_file.length, closing.sha256
    name = persist(
        "publishing", lambda: archive.publish(stream, partial_file.name, path, length, sha256, cancellation)
    )
    if name is None:
        told = persist("looking for the event of", lambda: kafka.last_file(stream, cancellation))
        if not told or told.sha256 != closing.sha256 or told.closing != closing.record:
            raise PartialDamagedError("neither it nor the finished file is there")
        log.error("%s: %s was finished as %s, and has been taken away since", stream, path, told.path)
        after = _checkpoint_after(checkpoint, partial_file, told.path)
    else:
        if name != path:
            log.error("%s: %s is another file's name already; this one is %s", stream, path, name)
        after = _checkpoint_after(checkpoint, partial_file, name)
        _publish_finished(archive, kafka, offset, checkpoint, after, name, persist)
    persist("tidying up after", lambda: archive.discard(stream, partial_file.name))
    final_commit = OffsetCommit(stream, offset, encode(after), cancellation)
    persist("committing", lambda: kafka.commit([final_commit]))
    try:
        archive.discard_copies(stream, partial_file)
    except OSError as error:  # they are removed when the stream is taken up the next time
        log.warning("%s: can't look for other partials of %s: %s", stream, path, error)
    log.info(
        "%s: finished %s (%s): %d frames, %.1f MB",
        stream,
        name or path,
        closing.why,
        partial_file.frames,
        partial_file.length / 1e6,
    )
    return after


class _RetryStep(Protocol):
    def __call__(self, what: str, act: Callable[[], T]) -> T: ...


def _with_digest(checkpoint: Checkpoint, file: SegmentFile, retry: _RetryStep) -> Checkpoint:
    """Make the file durable; gives the checkpoint with its digests."""
    closing = checkpoint.closing
    assert closing
    retry("making durable", file.make_durable)
    sha256 = retry("reading back", file.sha256)
    return replace(checkpoint, closing=replace(closing, sha256=sha256, md5=file.md5))


def _publish_finished(
    archive: ArchiveRoot,
    kafka: EventsAndCommits,
    offset: int,
    checkpoint: Checkpoint,
    after: Checkpoint,
    name: str,
    retry: _RetryStep,
) -> None:
    event = _event(archive, offset, checkpoint, after, name)
    retry("adding to SHA256SUMS", lambda: archive.add_checksum(event.stream, name, event.sha256))
    retry("telling of", lambda: kafka.publish(event))


def _check(
    archive: ArchiveRoot, stream: str, partial_file: Partial, sha256: str, cancellation: CancellationToken
) -> None:
    """After a restart the partial may be gone, as its last step; if it is there, it must be what was committed."""
    with archive.private(stream) as private:
        found = private.stat(partial_file.name)
        if found is None:
            return
        if not private.is_file(partial_file.name):
            raise PartialDamagedError("it is no file")
        if (
            found.st_size != partial_file.length
            or sha256sums.digest(private, partial_file.name, cancellation) != sha256
        ):
            raise PartialDamagedError(
                f"its {found.st_size} bytes aren't the {partial_file.length} that were committed"
            )


def _checkpoint_after(checkpoint: Checkpoint, partial_file: Partial, name: str) -> Checkpoint:
    number = int(name.removesuffix(".g3").rpartition("_")[2])
    carry = {
        code: replace(place, path=name) if place.path == partial_file.path else place
        for code, place in checkpoint.carry.items()
    }
    return replace(
        checkpoint,
        state=after_close(checkpoint.state, number),
        files=checkpoint.files + 1,
        carry=carry,
        partial=None,
        closing=None,
    )


def _event(archive: ArchiveRoot, offset: int, checkpoint: Checkpoint, after: Checkpoint, name: str) -> FileFinished:
    acquisition, partial_file, closing = checkpoint.state.acquisition, checkpoint.partial, checkpoint.closing
    assert acquisition
    assert partial_file
    assert closing
    return FileFinished(
        group=archive.group,
        stream=checkpoint.state.stream,
        path=name,
        number=after.files,
        id=acquisition.id,
        start=acquisition.start_s,
        suffix=after.state.names.number,
        settings=acquisition.settings,
        why=closing.why,
        frames=partial_file.frames,
        bytes=partial_file.length,
        sha256=closing.sha256,
        carry=partial_file.carry,
        first=partial_file.first,
        last=partial_file.last,
        closing=closing.record,
        offset=offset,
        checkpoint=after,
        host=archive.host,
        missing=checkpoint.state.file.missing if checkpoint.state.file else 0,
        md5=closing.md5,
    )


def _retry(
    stream: str, what: str, act: Callable[[], T], cancellation: CancellationToken, progress: FinalizeProgress
) -> T:
    def say(state: RetryCallState) -> None:
        assert state.outcome
        if error := state.outcome.exception():
            progress.step_failed(error)
        if state.attempt_number % _REPEAT_LOG_ATTEMPTS == 1:
            log.error("%s: %s: %s; still trying", stream, what, state.outcome.exception())
        cancellation.raise_if_cancelled(f"{stream}: {what}")

    cancellation.raise_if_cancelled(f"{stream}: {what}")
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, OSError | KafkaException) and not isinstance(e, SyncError)),
        reraise=True,
        wait=wait_fixed(_RETRY_SECONDS),
        sleep=sleep_using_event(cancellation),
        before_sleep=say,
    )
    return retrying(act)
