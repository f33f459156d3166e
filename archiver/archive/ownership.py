"""The check that a data directory is the archive of its group; otherwise nothing is recorded in it.

Each checkpoint has the id of its archive (identity.py). An archiver with a wrong --data-dir, or a second one of the
same group with its own directory, would put one acquisition's files into two directories, and nobody would notice.
"""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace

from archiver.archive import identity
from archiver.archive.identity import Identity
from archiver.archive.location import Location, LocationError, Within
from archiver.archive.root import ArchiveRoot
from archiver.core import checkpoint as checkpoints
from archiver.core.checkpoint import WHERE_CHARACTERS, ArchiveMark, Checkpoint, CheckpointError
from archiver.kafka.topic_reader import TopicReader

_MAX_REPORTED = 5


class AnotherArchiveError(Exception):
    """The data directory isn't the group's archive."""

    def __init__(self, *lines: str, forgotten: bool = False) -> None:
        super().__init__(lines[-1])
        self.lines = lines
        """What the operator reads; the last line is the summary."""
        self.forgotten = forgotten
        """Whether it is the group's data directory, but --private-dir is missing or wrong."""


def identify(archive: ArchiveRoot, reader: TopicReader) -> ArchiveRoot:
    """Verify that the group records to this archive; returns it with its ids.

    If it is new, it gets an identity, durably. Before that nothing is written, and the group isn't joined. Raises
    AnotherArchiveError, OSError, KafkaException.
    """
    own = identity.read(archive.location)
    check_group(archive, own)
    known = _decoded(reader)
    check_identity(archive, own, known, here=own is not None or _has_file(archive.location, known))
    if own is None:
        own = identity.create(archive.location, archive.group)
        check_group(archive, own)
    return replace(archive, ids=own.ids)


def check_not_elsewhere(archive: ArchiveRoot, reader: TopicReader) -> None:
    """Raises LocationError if the group's archive in this data directory has another private directory.

    For programs that would create `.archiver`. Raises OSError, KafkaException.
    """
    if archive.location.private_dir is None and identity.read(archive.location) is None:
        marks = [it.archive for it in _decoded(reader).values() if it.archive]
        if private := _elsewhere(archive, marks):
            why = f"the archive of the group {archive.group} has another private directory: --private-dir {private}"
            raise LocationError(None, why)


def check_group(archive: ArchiveRoot, own: Identity | None) -> None:
    """Raises AnotherArchiveError if another group records to it: each would remove the other's partials."""
    if own is None or own.group == archive.group:
        return
    raise AnotherArchiveError(
        f"another group records to this directory, as {archive.location.private_path / identity.IDENTITY} says:",
        f"  {own.group}, not {archive.group}",
        f"use --group {own.group}, or another --data-dir",
        f"nothing was recorded: {archive.location.data_dir} is the archive of the group {own.group}",
    )


def check_identity(
    archive: ArchiveRoot, own: Identity | None, known: Mapping[str, Checkpoint], *, here: bool
) -> None:
    """Raises AnotherArchiveError if the checkpoints `known`, by stream, are of another archive. Pure.

    own: the directory's identity. here: whether the directory has an identity, or else the files that the checkpoints
    (from before archives had identities) describe.
    """
    ids = own.ids if own else ()
    others = {stream: it.archive for stream, it in known.items() if it.archive and it.archive.id not in ids}
    if others:
        raise another_archive_error(archive, own, others)
    if own is None and not here and any(_recorded(it) for it in known.values()):
        raise AnotherArchiveError(
            f"the group {archive.group} has recorded before, but not to this directory:",
            f"  {archive.host}:{archive.location.data_dir} has neither the files it had open nor",
            f"  {archive.location.private_path}/<stream> of {_some_of(sorted(known))}",
            *_remedies(archive, identity.new_id()),
        )


def another_archive_error(
    archive: ArchiveRoot, own: Identity | None, others: Mapping[str, ArchiveMark]
) -> AnotherArchiveError:
    """The error to raise if the checkpoints of these streams are of other archives."""
    if own is None and (private := _elsewhere(archive, others.values())):
        return AnotherArchiveError(
            f"the archive of the group {archive.group} has its private directory elsewhere; say so:",
            f"  --private-dir {private}",
            f"nothing was recorded: {archive.location.private_path} isn't where it was",
            forgotten=True,
        )
    streams: dict[ArchiveMark, list[str]] = {}
    for stream, mark in sorted(others.items()):
        streams.setdefault(mark, []).append(stream)
    marks = list(streams)
    found = [f"  {mark.id} at {mark.where or 'unknown'}: {_some_of(streams[mark])}" for mark in marks[:_MAX_REPORTED]]
    return AnotherArchiveError(
        f"the group {archive.group} records to another archive than this directory:",
        *found,
        f"  this is {own.ids[0] if own else 'one without an id'} at {archive.host}:{archive.location.data_dir}",
        *_remedies(archive, *dict.fromkeys(mark.id for mark in marks[:_MAX_REPORTED])),
    )


def _remedies(archive: ArchiveRoot, *ids: str) -> tuple[str, ...]:
    path = shlex.quote(str(archive.location.private_path / identity.IDENTITY))
    private = archive.location.private_dir or "their .archiver"
    return (
        "record to that one; or, for a new archive, use another --group as well.",
        f"Were its files moved, or restored, to here? {private} belongs to them: copy it, too.",
        "If that is gone, or files of two archives are one now, say that they are here:",
        *(f"  echo {one} {archive.group} >> {path}" for one in ids),
        f"nothing was recorded: {archive.location.data_dir} isn't the archive of the group {archive.group}",
    )


def _elsewhere(archive: ArchiveRoot, others: Iterable[ArchiveMark]) -> str:
    """The other private directory that the group's archive in this data directory had; empty if unknown."""
    for mark in others:
        where = mark.where.partition(":")[2]
        private = where.removeprefix(f"{archive.location.data_dir} --private-dir ")
        is_whole = len(mark.where) < WHERE_CHARACTERS
        if is_whole and private not in (where, str(archive.location.private_dir)):
            return private
    return ""


def _some_of(streams: list[str]) -> str:
    more = len(streams) - 3
    return ", ".join(streams[:3]) + (f" and {more} more" if more > 0 else "")


def _recorded(state: Checkpoint) -> bool:
    return state.files > 0 or state.partial is not None


def _decoded(reader: TopicReader) -> Mapping[str, Checkpoint]:
    """The group's checkpoints by stream, without those that can't be decoded: such a stream isn't recorded."""
    found = {}
    for stream, commit in reader.committed().items():
        try:
            found[stream] = checkpoints.decode(commit.metadata, stream)
        except CheckpointError:
            continue
    return found


def _has_file(location: Location, known: Mapping[str, Checkpoint]) -> bool:
    """Whether a directory without an identity has the files of these checkpoints (from before there were identities).

    It has if one of their open files is there; if none is open, the private directory of one of the streams. Raises
    OSError.
    """
    begun = [(stream, state.partial, state.closing) for stream, state in known.items() if state.partial]
    for stream, partial, closing in begun:
        parent, _, name = partial.path.rpartition("/")
        if location.exists(Within(stream, private=True), partial.name) or (
            closing and location.exists(Within(parent), name)
        ):
            return True
    streams = [] if begun else [stream for stream, state in known.items() if _recorded(state)]
    return any(location.exists(Within("", private=True), stream) for stream in streams)
