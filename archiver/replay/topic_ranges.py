"""Which parts of a topic are read to rebuild the files that are wanted. Pure."""

from collections.abc import Container, Sequence

from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason
from archiver.replay.plan import Selection


def pieces(
    events: Sequence[FileFinished], selection: Selection, boundaries: Container[CloseReason]
) -> list[tuple[FileFinished | None, FileFinished | None]]:
    """Where to read, in pieces: after which file told of (None: from the topic's first record), to the end of which
    (None: to the end, or until nothing that is wanted comes any more). events: of one stream, in order.

    boundaries: the reasons for which a file was closed that end an acquisition.
    """
    if selection.paths:
        pieces: list[tuple[FileFinished | None, FileFinished | None]] = []
        for number, event in enumerate(events):
            if event.path in selection.paths:
                before = events[number - 1] if number else None
                if pieces and before is not None and pieces[-1][1] is before:
                    pieces[-1] = pieces[-1][0], event
                else:
                    pieces.append((before, event))
        return pieces
    if selection.since_ms is None:
        return [(None, None)]
    last = None
    for event in events:
        if event.last.time >= selection.since_ms:
            break
        if event.why in boundaries:
            last = event
    return [(last, None)]
