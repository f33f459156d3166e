"""Finalization: the steps by which a recorded file becomes a finished one (law 4).

    1. The losses that showed before its end are published on g3.files.
    2. It is made durable, and read back for its SHA-256.
    3. The checkpoint before its closing record is committed, with `closing`: how the file ended.
    4. It is linked to its name, which is durable then. Nothing is ever replaced: if another file has that name, it
       gets the next free one.
    5. Its checksum is added to SHA256SUMS.
    6. Its event is published on g3.files.
    7. Its partial is removed.
    8. The checkpoint after the file, without `closing`, is committed: recording continues from it.

Each step is repeated until it succeeds. The commit of step 3 is made before anything that others can see, that of
step 8 after all of it. So after a kill between them, the restart checks that the partial is what was committed (in
place of steps 1 to 3), and does steps 4 to 8, again or for the first time.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import NamedTuple, ParamSpec, TypeVar

from confluent_kafka import KafkaException
from msgspec.structs import replace
from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, wait_fixed

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint, Partial, encode
from archiver.core.events import FileFinished, RecordsLost
from archiver.core.segmenter import CarriedFrame, Segmenter
from archiver.kafka.group_consumer import GroupConsumer
from archiver.kafka.offset_commits import OffsetCommit
from archiver.recording.finalizer_status import FinalizeProgress, FinalizeStep
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from archiver.storage import sha256sums
from g3stream.service.cancellation import CancellationToken
from g3stream.service.log_throttle import LogThrottle

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

_RETRY_SECONDS = 1.0


class Finalized(NamedTuple):
    """The outcome of a finalization."""

    path: str
    """Of the finished file, below the data directory."""
    checkpoint: Checkpoint
    """After it."""


class Finalizer:
    """Finishes the open file of a checkpoint, on a thread of `pool`; it starts at once.

    offset: at which the checkpoint is committed, before and after.
    file: the open file, whose digests the checkpoint doesn't have yet. None after a restart within the steps: then
    the checkpoint is the committed one.
    losses: noticed before the file's end.

    `future` has the outcome. It raises PartialDamagedError if the partial isn't what was committed,
    SyncError if the disk failed to sync it, Cancelled once `cancellation` is set, FencedError, MemberEvicted.
    """

    def __init__(
        self,
        archive: ArchiveRoot,
        consumer: GroupConsumer,
        pool: Executor,
        offset: int,
        checkpoint: Checkpoint,
        file: SegmentFile | None,
        losses: Sequence[RecordsLost],
        cancellation: CancellationToken,
    ) -> None:
        assert checkpoint.partial
        self.offset = offset
        self.checkpoint = checkpoint
        self.path = checkpoint.partial.path
        self.progress = FinalizeProgress(self.path)
        self._archive = archive
        self._consumer = consumer
        self._cancellation = cancellation
        self._stream = checkpoint.state.stream
        self.future: Future[Finalized] = pool.submit(self._finalize, file, losses)

    def _finalize(self, file: SegmentFile | None, losses: Sequence[RecordsLost]) -> Finalized:
        archive, stream, path = self._archive, self._stream, self.path
        checkpoint = self._close(file, losses) if file else self._check_committed()
        partial_file, closing = checkpoint.partial, checkpoint.closing
        assert partial_file
        assert closing
        length, sha256 = partial_file.length, closing.sha256

        # Step 4: link it to its name.
        name = self._attempt(
            FinalizeStep.PUBLISH, archive.publish, stream, partial_file.name, path, length, sha256, self._cancellation
        )
        if name is None:
            find = self._consumer.last_file_index.find
            finished = self._attempt(FinalizeStep.FIND_EVENT, find, stream, self._cancellation)
            if (
                not isinstance(finished, FileFinished)
                or finished.sha256 != sha256
                or finished.closing != closing.record
            ):
                raise PartialDamagedError("neither it nor the finished file is there")
            log.error("%s: %s was finished as %s, which has been removed since", stream, path, finished.path)
            finished_path = finished.path
            after = _checkpoint_after(checkpoint, finished_path)
        else:
            if name != path:
                log.error("%s: %s is another file's name already; this one is %s", stream, path, name)
            finished_path = name
            after = _checkpoint_after(checkpoint, finished_path)

            # Step 5: add its checksum.
            self._attempt(FinalizeStep.ADD_SUM, archive.add_checksum, stream, name, sha256)

            # Step 6: publish its event.
            event = _event(archive, self.offset, checkpoint, after, name)
            self._attempt(FinalizeStep.PUBLISH_EVENT, self._consumer.events.publish, event)

        # Step 7: remove its partial.
        self._attempt(FinalizeStep.REMOVE_PARTIAL, archive.discard, stream, partial_file.name)

        # Step 8: commit the checkpoint after it.
        self._commit(FinalizeStep.COMMIT, after)

        try:
            archive.discard_copies(stream, partial_file)
        except OSError as error:  # the next recovery of the stream removes them
            log.warning("%s: can't look for other partials of %s: %s", stream, path, error)
        what = "%s: finished %s (%s): %d frames, %.1f MB"
        log.info(what, stream, name or path, closing.why.shown, partial_file.frames, length / 1e6)
        return Finalized(finished_path, after)

    def _close(self, file: SegmentFile, losses: Sequence[RecordsLost]) -> Checkpoint:
        """Do steps 1 to 3; return the checkpoint with the digests, as committed."""
        # Step 1: publish the losses before its end. If the partial turns out to be damaged, they need not show again.
        for loss in losses:
            self._attempt(FinalizeStep.PUBLISH_LOSS, self._consumer.events.publish, loss)

        # Step 2: make it durable, and read it back.
        self._attempt(FinalizeStep.SYNC, file.make_durable)
        sha256 = self._attempt(FinalizeStep.READ_BACK, file.sha256)

        # Step 3: commit how it ended.
        closing = self.checkpoint.closing
        assert closing
        checkpoint = replace(self.checkpoint, closing=replace(closing, sha256=sha256, md5=file.md5))
        self._commit(FinalizeStep.COMMIT_END, checkpoint)
        return checkpoint

    def _check_committed(self) -> Checkpoint:
        """Check the partial, in place of steps 1 to 3, which were done before a restart; return the checkpoint."""
        partial_file, closing = self.checkpoint.partial, self.checkpoint.closing
        assert partial_file
        assert closing
        self._attempt(
            FinalizeStep.CHECK, _check, self._archive, self._stream, partial_file, closing.sha256, self._cancellation
        )
        return self.checkpoint

    def _commit(self, step: FinalizeStep, checkpoint: Checkpoint) -> None:
        commit = OffsetCommit(self._stream, self.offset, encode(checkpoint), self._cancellation)
        self._attempt(step, self._consumer.commits.commit, commit)

    def _attempt(self, step: FinalizeStep, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step, again each second until it succeeds. Raises as `future` does."""
        what, throttle = f"{step} {self.path}", LogThrottle()

        def log_failure(state: RetryCallState) -> None:
            assert state.outcome
            if error := state.outcome.exception():
                self.progress.step_failed(error)
            if throttle.due(time.monotonic()):
                log.error("%s: %s: %s; still trying", self._stream, what, state.outcome.exception())
            self._cancellation.raise_if_cancelled(f"{self._stream}: {what}")

        self.progress.start_step(step)
        self._cancellation.raise_if_cancelled(f"{self._stream}: {what}")
        retrying = Retrying(
            retry=retry_if_exception(
                lambda e: isinstance(e, OSError | KafkaException) and not isinstance(e, SyncError)
            ),
            reraise=True,
            wait=wait_fixed(_RETRY_SECONDS),
            sleep=sleep_using_event(self._cancellation),
            before_sleep=log_failure,
        )
        return retrying(act, *args, **kwargs)


def _check(
    archive: ArchiveRoot, stream: str, partial_file: Partial, sha256: str, cancellation: CancellationToken
) -> None:
    """Check that the partial, if it still exists, is what was committed. Raises PartialDamagedError, OSError."""
    with archive.private(stream) as private:
        found, length = private.stat(partial_file.name), partial_file.length
        if found and not sha256sums.has_content(private, partial_file.name, length, sha256, cancellation):
            raise PartialDamagedError(f"its {found.st_size} bytes aren't the {length} that were committed")


def _checkpoint_after(checkpoint: Checkpoint, finished: str) -> Checkpoint:
    segmenter = Segmenter(
        checkpoint.state, {code: CarriedFrame((), place) for code, place in checkpoint.carry.items()}
    )
    segmenter.on_closed(finished)
    return replace(
        checkpoint,
        state=segmenter.state,
        files=checkpoint.files + 1,
        carry=segmenter.places(),
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
