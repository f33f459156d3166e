"""Which parts of a topic are read to rebuild the files that are wanted. Pure."""

from collections.abc import Container, Sequence

from archiver.core.events import FileFinished
from archiver.core.segmentation import Why
from archiver.replay.rebuilder import Wanted


def starts(
    told: Sequence[FileFinished], wanted: Wanted, boundaries: Container[Why]
) -> list[tuple[FileFinished | None, FileFinished | None]]:
    """Where to read, in pieces: after which file told of (None: from the topic's first record), to the end of which
    (None: to the end, or until nothing that is wanted comes any more). told: of one stream, in order.

    boundaries: the reasons for which a file was closed that end an acquisition.
    """
    if wanted.only:
        pieces: list[tuple[FileFinished | None, FileFinished | None]] = []
        for number, event in enumerate(told):
            if event.path in wanted.only:
                before = told[number - 1] if number else None
                if pieces and before is not None and pieces[-1][1] is before:
                    pieces[-1] = pieces[-1][0], event
                else:
                    pieces.append((before, event))
        return pieces
    if wanted.since is None:
        return [(None, None)]
    last = None
    for event in told:
        if event.last.time >= wanted.since:
            break
        if event.why in boundaries:
            last = event
    return [(last, None)]
