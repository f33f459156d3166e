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

from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import Checkpoint, Closing, encode
from archiver.core.events import FileFinished, RecordsLost
from archiver.core.segmenter import CarriedFrame, Segmenter
from archiver.kafka.group_consumer import GroupConsumer
from archiver.kafka.offset_commits import OffsetCommit
from archiver.recording.finalizer_status import FinalizeProgress, FinalizeStep
from archiver.segments.segment_file import PartialDamagedError, SegmentFile, SyncError
from archiver.storage import sha256sums
from g3stream.log.throttle import LogThrottle
from g3stream.service.cancellation import CancellationToken

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
    remark: the reason of the operator who ended the acquisition (`archiver close`), for the log; None if none did.

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
        remark: str | None = None,
    ) -> None:
        assert checkpoint.partial
        assert checkpoint.closing
        self.offset = offset
        self.checkpoint = checkpoint
        self.path = checkpoint.partial.path
        self.progress = FinalizeProgress(self.path)
        self._partial = checkpoint.partial
        self._closing = checkpoint.closing
        self._archive = archive
        self._consumer = consumer
        self._cancellation = cancellation
        self._remark = remark
        self._stream = checkpoint.state.stream
        self.future: Future[Finalized] = pool.submit(self._finalize, file, losses)

    def _finalize(self, file: SegmentFile | None, losses: Sequence[RecordsLost]) -> Finalized:
        archive, stream, path, partial = self._archive, self._stream, self.path, self._partial
        if file:
            closing = self._close(file, losses)
        else:  # steps 1 to 3 were done before a restart
            closing = self._closing
            self._attempt(FinalizeStep.CHECK, self._check_committed)
        length, sha256 = partial.length, closing.sha256
        checkpoint = replace(self.checkpoint, closing=closing)

        # Step 4: link it to its name.
        name = self._attempt(
            FinalizeStep.PUBLISH, archive.publish, stream, partial.name, path, length, sha256, self._cancellation
        )
        finished_path = name or self._removed_since(closing)
        after = _checkpoint_after(checkpoint, finished_path)
        if name:
            if name != path:
                text = "%s: %s is another file's name already; this one is %s, and both are kept"
                log.error(text, stream, path, name)

            # Step 5: add its checksum.
            self._attempt(FinalizeStep.ADD_SUM, archive.add_checksum, stream, name, sha256)

            # Step 6: publish its event.
            event = _event(archive, self.offset, checkpoint, after, name)
            self._attempt(FinalizeStep.PUBLISH_EVENT, self._consumer.events.publish, event)

        # Step 7: remove its partial.
        self._attempt(FinalizeStep.REMOVE_PARTIAL, archive.discard, stream, partial.name)

        # Step 8: commit the checkpoint after it.
        self._commit(FinalizeStep.COMMIT, after)

        try:
            archive.discard_copies(stream, partial)
        except OSError as error:  # the next recovery of the stream removes them
            text = "%s: can't look for other partials of %s: %s; the next recovery of the stream removes them"
            log.warning(text, stream, path, error)
        what = "%s: finished %s (%s): %d frames, %.1f MB"
        why = f"{closing.why.shown}: {self._remark}" if self._remark else closing.why.shown
        log.info(what, stream, name or path, why, partial.frames, length / 1e6)
        return Finalized(finished_path, after)

    def _close(self, file: SegmentFile, losses: Sequence[RecordsLost]) -> Closing:
        """Do steps 1 to 3; return how the file ended, with its digests, as committed."""
        # Step 1: publish the losses before its end. If the partial turns out to be damaged, they need not show again.
        for loss in losses:
            self._attempt(FinalizeStep.PUBLISH_LOSS, self._consumer.events.publish, loss)

        # Step 2: make it durable, and read it back.
        self._attempt(FinalizeStep.SYNC, file.make_durable)
        sha256 = self._attempt(FinalizeStep.READ_BACK, file.sha256)

        # Step 3: commit how it ended.
        closing = replace(self._closing, sha256=sha256, md5=file.md5)
        self._commit(FinalizeStep.COMMIT_END, replace(self.checkpoint, closing=closing))
        return closing

    def _check_committed(self) -> None:
        """Check that the partial, if it still exists, is what was committed. Raises PartialDamagedError, OSError."""
        name, length, sha256 = self._partial.name, self._partial.length, self._closing.sha256
        with self._archive.private(self._stream) as private:
            found = private.stat(name)
            if found and not sha256sums.has_content(private, name, length, sha256, self._cancellation):
                raise PartialDamagedError(f"its {found.st_size} bytes aren't the {length} that were committed")

    def _removed_since(self, closing: Closing) -> str:
        """Return the path of the finished file, which has been removed since, as has its partial.

        Raises PartialDamagedError if it was never finished.
        """
        find = self._consumer.last_file_index.find
        event = self._attempt(FinalizeStep.FIND_EVENT, find, self._stream, self._cancellation)
        if not isinstance(event, FileFinished) or (event.sha256, event.closing) != (closing.sha256, closing.record):
            raise PartialDamagedError("neither it nor the finished file is there")
        text = "%s: %s was finished as %s, which has been removed since; recording continues after it"
        log.error(text, self._stream, self.path, event.path)
        return event.path

    def _commit(self, step: FinalizeStep, checkpoint: Checkpoint) -> None:
        commit = OffsetCommit(self._stream, self.offset, encode(checkpoint), self._cancellation)
        self._attempt(step, self._consumer.commits.commit, commit)

    def _attempt(self, step: FinalizeStep, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a step, again each second until it succeeds. Raises as `future` does."""
        what, throttle = f"{self._stream}: {step} {self.path}", LogThrottle()
        self.progress.start_step(step)
        while True:
            self._cancellation.raise_if_cancelled(what)
            try:
                return act(*args, **kwargs)
            except SyncError:
                raise
            except (OSError, KafkaException) as error:
                self.progress.step_failed(error)
                if throttle.due(time.monotonic()):
                    log.error("%s: %s; still trying", what, error)
                self._cancellation.wait(_RETRY_SECONDS)


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
