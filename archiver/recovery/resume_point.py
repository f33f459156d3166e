"""Where the recording of a stream goes on: after its last commit, else after its last file, else at the first record.

And what becomes of the partials that lie there: the open file is gone on with, made again from the topic, or, if the
topic can't give it again, published as it is (salvage.py).
"""

import logging
from dataclasses import dataclass

from msgspec.structs import replace

from archiver.archive.identity import Identity
from archiver.archive.ownership import another
from archiver.archive.root import ArchiveRoot
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import Checkpoint, CheckpointError, Partial
from archiver.core.events import FileSalvaged, RecordsLost
from archiver.core.paths import SUMS, NameFormat, PartialName, parse_path, start_and_number
from archiver.core.segmentation import Settings, State, closed
from archiver.core.sequence import Cause, Seen, forgotten_before, undone
from archiver.core.used_names import taken
from archiver.kafka.group_consumer import Committed, Feed
from archiver.recovery.partial_position import Place, last_whole_frame, place_after
from archiver.recovery.salvage import salvage
from archiver.segments.open_segment import GrowingFile
from archiver.segments.segment_file import PartialDamagedError
from archiver.storage.partials import unlocked_partials
from g3stream.service.cancellation import Abandoned

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resumed:
    """From where to go on. offset: the next record to read, None for the topic's first. file: the open one, if any;
    with `checkpoint.closing` there is none, and it is to be finished first. known: whether there was a state.
    settings: of the acquisition that begins next, if its first file is made again: those that it had."""

    checkpoint: Checkpoint
    offset: int | None
    file: GrowingFile | None = None
    known: bool = True
    settings: Settings | None = None


def resume(archive: ArchiveRoot, feed: Feed, committed: Committed, abandoned: Abandoned) -> Resumed:
    """Go on from what Kafka knows of the stream, and see to its partials. May take minutes.

    Raises CheckpointError if what Kafka knows can't be understood, AnotherArchiveError if it is of another archive,
    OSError, KafkaException, AbandonedError.
    """
    start = _without_orphans(archive, feed, _ours(archive, _known(feed, committed, abandoned)), abandoned)
    found = start.checkpoint
    if found.partial is None or found.closing:
        return start
    try:
        with archive.private(committed.stream) as private:
            file = GrowingFile.go_on(private, found.partial, found.epochs, abandoned, md5=archive.md5)
    except PartialDamagedError as error:
        return rebuild(archive, feed, found, start.offset, str(error), abandoned)
    log.info("%s: going on with %s at %.1f MB", committed.stream, file.path, file.file.length / 1e6)
    return Resumed(found, start.offset, file)


def rebuild(
    archive: ArchiveRoot, feed: Feed, found: Checkpoint, offset: int | None, why: str, abandoned: Abandoned
) -> Resumed:
    """Go on without the checkpoint's open file, whose partial isn't what was committed: make it again.

    offset: where the checkpoint goes on. May take minutes. Raises OSError, KafkaException, AbandonedError.
    """
    stream, partial = found.state.stream, found.partial
    assert partial
    assert found.state.acquisition
    first, _ = feed.history.span(stream)
    if first <= partial.base.offset:
        log.error("%s: %s has to be made again from the topic: %s", stream, partial.path, why)
        archive.discard(stream, partial.name)
        base = partial.base
        epochs = undone(found.epochs, base.epochs)
        forgotten = forgotten_before(epochs, found.forgotten)
        before = Checkpoint(base.state, epochs, found.files, base.carry, forgotten=forgotten)
        # Not with settings that have been changed since: the file would end elsewhere, before what is committed.
        return Resumed(before, base.offset, settings=found.state.acquisition.settings)
    what = f"{partial.path}: {why}; the topic, which begins at offset {first} now, can't give it again"
    saved = salvage(archive, feed, stream, partial.name, what, abandoned)
    if saved is None and (saved := _saved_before(feed, stream, partial, abandoned)):
        what = saved.what  # so that a loss which was told with it keeps its key
    missing = partial.frames + len(partial.carry) - (saved.frames if saved else 0)
    last = partial.last
    loss = RecordsLost(
        archive.group,
        stream,
        max(0, missing),
        what,
        offset or 0,
        partial.first.time,
        last.time,
        archive.host,
        Cause.DISK,
    )
    log.error("%s: LOST %d frames of %s", stream, missing, what)
    feed.tell(loss)
    _, number = start_and_number(saved.path if saved else partial.path)
    after = replace(found, state=closed(found.state, number), partial=None, closing=None)
    return Resumed(after, offset)


def _saved_before(feed: Feed, stream: str, partial: Partial, abandoned: Abandoned) -> FileSalvaged | None:
    """What was told of that partial, if it was salvaged already and a kill, or Kafka, kept that from being committed.

    It says so only of one that got its own name.
    """
    for event in feed.history.events([stream]):
        abandoned.check(f"looking for the event of {partial.path}")
        if isinstance(event, FileSalvaged) and (event.stream, event.path) == (stream, partial.path):
            return event
    return None


def _known(feed: Feed, committed: Committed, abandoned: Abandoned) -> Resumed:
    stream, offset = committed.stream, committed.offset
    if offset is not None and committed.metadata:
        return Resumed(checkpoints.decode(committed.metadata, stream), offset)
    last = feed.last_files.of(stream, abandoned)
    if isinstance(last, CheckpointError):
        raise last
    if last is not None:
        if feed.history.holds(stream, last.closing):
            log.error("%s: no state is committed; going on after its last file, %s", stream, last.path)
            return Resumed(last.checkpoint, last.offset)
        log.error(
            "%s: no state is committed, and the topic hasn't the record any more that ended its last file, %s; "
            "going on from the topic's first record",
            stream,
            last.path,
        )
        return Resumed(last.checkpoint, None)
    if offset is not None:
        log.error("%s: offset %d was committed without a state; beginning there", stream, offset)
    return Resumed(Checkpoint(State(stream)), offset, known=False)


def _ours(archive: ArchiveRoot, start: Resumed) -> Resumed:
    """The same, and from now on of this archive. Raises AnotherArchiveError."""
    found = start.checkpoint
    if found.archive and archive.ids and found.archive.id not in archive.ids:
        raise another(archive, Identity(archive.ids, archive.group), {found.state.stream: found.archive})
    return Resumed(replace(found, archive=archive.mark), start.offset, known=start.known)


def _without_orphans(archive: ArchiveRoot, feed: Feed, start: Resumed, abandoned: Abandoned) -> Resumed:
    """See to the partials that no state tells of: begun just before a kill, or all that is left of a lost state."""
    found = start.checkpoint
    stream = found.state.stream
    keep = {found.partial.name} if found.partial else set()
    with archive.private(stream) as private:
        for name in private.names():
            if name.startswith(f"{SUMS}.") and private.is_file(name):  # of a kill; what else is so called isn't ours
                private.unlink(name)
        orphans = unlocked_partials(private, sorted(set(private.names()) - keep))
    if not orphans:
        return start
    if start.offset is not None and not start.known:
        # Moved there by hand, or by a tool. Wherever that is, the partial shows that records were recorded whose file
        # isn't finished: read from before them, or what lies between would be skipped, or recorded twice.
        log.error("%s: its partial shows that there was a state; going on from the topic's first record", stream)
        start = Resumed(found, None, known=False)
    names = found.state.names
    after: Place | None = None
    for name in orphans:
        orphan = PartialName.parse(name)
        assert orphan
        if (found.partial and found.partial.path == orphan.path) or _comes_again(feed, start, orphan):
            archive.discard(stream, name)
            log.info("%s: removed %s, begun just before a kill; its records come again", stream, name)
            continue
        if start.offset is None:
            after = max((after, _end_of(archive, feed, start, orphan, name, abandoned)), key=_offset)
        why = "its state is lost, and the topic can't give it again"
        if saved := salvage(archive, feed, stream, name, why, abandoned):
            found_name = parse_path(saved.path)
            assert found_name
            in_digits = found_name.name_format is not NameFormat.DATE
            names = taken(names, found_name.start, found_name.number, in_digits=in_digits)
    found = replace(found, state=replace(found.state, names=names))
    if after is None:
        return Resumed(found, start.offset, known=start.known)
    log.info("%s: the topic has its last frame; going on after that, at offset %d", stream, after.offset)
    seen = Seen(found.epochs, found.forgotten)
    seen.also([(after.epoch, after.seq)], ())
    found = replace(found, epochs=seen.epochs(), forgotten=seen.forgotten)
    return Resumed(found, after.offset)


def _end_of(
    archive: ArchiveRoot, feed: Feed, start: Resumed, orphan: PartialName, name: str, abandoned: Abandoned
) -> Place | None:
    """Where the topic goes on after what that partial holds; None if it hasn't that any more. Then, if no state shows
    what is missing before its first record, that is told as lost."""
    stream = start.checkpoint.state.stream
    with archive.private(stream) as private:
        frame = last_whole_frame(private, name, abandoned) if private.is_file(name) else b""
    after = place_after(feed.history, stream, frame, abandoned) if frame else None
    if after is None and not start.known:
        first, _ = feed.history.span(stream)
        time = feed.history.time(stream)
        until = orphan.first if time is None else time
        what = f"after what {orphan.path} holds, whose state is lost, and before offset {first}, records may be lost"
        log.error("%s: LOST, perhaps: %s", stream, what)
        loss = RecordsLost(archive.group, stream, None, what, first, orphan.first, until, archive.host, Cause.DELETED)
        feed.tell(loss)
    return after


def _offset(place: Place | None) -> int:
    return place.offset if place else -1


def _comes_again(feed: Feed, start: Resumed, orphan: PartialName) -> bool:
    """Whether the topic will give us all records of that partial again."""
    stream = start.checkpoint.state.stream
    if start.offset is not None:
        return start.known and feed.history.span(stream)[0] <= start.offset
    first = feed.history.time(stream)
    return first is not None and first <= orphan.first
