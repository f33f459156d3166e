"""Producer epochs: an id for each start of ingest, ordered within one spool.

An epoch is 16 hex digits:

    TTTTTTTTT RR SSSSS
    T  the start, in tenths of a second since 1970; always larger than the T of the spool's previous epoch,
       whatever the clock says
    R  random, so that a spool restored from a backup never makes the same epoch again
    S  the spool's mark: random when the spool is new, then copied from epoch to epoch

So of two epochs with the same mark the larger one is the later one, and the archiver recognizes the records of an
epoch that it no longer remembers (sequence.py). Epochs with different marks have no order: a new spool
has a new mark, so a wrong clock on its host can't make its records look old. Earlier versions of ingest made all 16
digits at random: each of those epochs has a mark of its own (except one in a million pairs, by chance), and so no
order. No I/O, no clock.
"""

RANDOM_BITS = 28
"""Random bits that `new_epoch` needs: for R and, for a new spool, S."""

_START_DIGITS, _MARK_DIGITS = 9, 5
_TENTH_MS = 100
_LATEST = (1 << 4 * _START_DIGITS) - 1  # in the year 4147


def new_epoch(previous: str | None, now_ms: int, random: int) -> str:
    """Return the epoch of an ingest that starts now.

    previous: the last epoch in its spool; None if the spool is new. now_ms: ms since 1970. random: RANDOM_BITS
    random bits.
    """
    start, mark = now_ms // _TENTH_MS, random & 0xFFFFF
    if previous is not None:
        last = int(previous[:_START_DIGITS], 16)
        if last < _LATEST:  # otherwise as for a new spool
            start, mark = max(start, last + 1), int(previous[-_MARK_DIGITS:], 16)
    return f"{min(max(start, 0), _LATEST):09x}{random >> 20 & 0xFF:02x}{mark:05x}"


def mark_of(epoch: str) -> str:
    """Return an epoch's mark: epochs with the same mark are of one spool, and ordered."""
    return epoch[-_MARK_DIGITS:]


def epoch_before(epoch: str) -> str | None:
    """Return the largest epoch of the same spool that is before this one; None if there can be none."""
    number = int(epoch, 16) - (1 << 4 * _MARK_DIGITS)
    return f"{number:016x}" if number >= 0 else None
