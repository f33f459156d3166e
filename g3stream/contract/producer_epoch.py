"""Producer epochs: an id for each start of ingest, in an order that needs no memory of the epochs between.

An epoch is 16 hex digits:

    TTTTTTTTT RR SSSSS
    T  the start, in tenths of a second since 1970; larger than the T of the spool's epoch before, whatever the clock
    R  random, so that a spool that was set back never makes the same epoch again
    S  the spool's mark: random when the spool is new, then handed on from epoch to epoch

So of two epochs with the same mark the larger one came later, which is how the archiver still knows the records of an
epoch that it has forgotten (archiver/core/sequence.py). Epochs with different marks have no order: a new spool begins
a new mark, and a clock that was wrong on its host can't make its records look old. Versions of ingest before this
made all 16 digits at random: each of those epochs has a mark of its own (one in a million pairs by chance hasn't),
and so no order. No I/O, no clock.
"""

EPOCH_DIGITS = 16
RANDOM_BITS = 28
"""Of which `new_epoch` makes R and, for a new spool, S."""

_START_DIGITS, _MARK_DIGITS = 9, 5
_TENTH_MS = 100
_LATEST = (1 << 4 * _START_DIGITS) - 1  # in the year 4147


def new_epoch(previous: str | None, now_ms: int, random: int) -> str:
    """The epoch of an ingest that starts now.

    previous: the last epoch in its spool, None if that is new. now_ms: since 1970. random: RANDOM_BITS of it.
    """
    start, mark = now_ms // _TENTH_MS, random & 0xFFFFF
    if previous is not None:
        last = int(previous[:_START_DIGITS], 16)
        if last < _LATEST:  # else it goes on as a new spool does
            start, mark = max(start, last + 1), int(previous[-_MARK_DIGITS:], 16)
    return f"{min(max(start, 0), _LATEST):09x}{random >> 20 & 0xFF:02x}{mark:05x}"


def mark_of(epoch: str) -> str:
    """The mark of its spool: epochs that have the same one are in order."""
    return epoch[-_MARK_DIGITS:]
