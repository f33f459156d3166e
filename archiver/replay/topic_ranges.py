"""The ranges of a topic to read for the selected files. Pure."""

from collections.abc import Container, Sequence

from archiver.core.events import FileFinished
from archiver.core.segmentation import CloseReason
from archiver.replay.plan import Selection


def topic_ranges(
    events: Sequence[FileFinished], selection: Selection, boundaries: Container[CloseReason]
) -> list[tuple[FileFinished | None, FileFinished | None]]:
    """Return the ranges to read: each begins after one recorded file, and ends with the end of another.

    None as the first: from the topic's first record. None as the last: to the topic's end, or until nothing selected
    can follow.
    events: of one stream, in order.
    boundaries: the reasons for closing a file that end an acquisition.
    """
    if selection.paths:
        ranges: list[tuple[FileFinished | None, FileFinished | None]] = []
        for number, event in enumerate(events):
            if event.path in selection.paths:
                before = events[number - 1] if number else None
                if ranges and before is not None and ranges[-1][1] is before:
                    ranges[-1] = ranges[-1][0], event
                else:
                    ranges.append((before, event))
        return ranges
    if selection.since_ms is None:
        return [(None, None)]
    last = None
    for event in events:
        if event.last.time >= selection.since_ms:
            break
        if event.why in boundaries:
            last = event
    return [(last, None)]
