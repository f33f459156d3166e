"""The fast path for runs: consecutive frames, each plainly the successor of the one before, as nearly all are.

A run is taken at once: only what can differ is compared, and the state is updated once. That takes half the time of
the way through sequence.py and segmentation.py for each frame, and must have the same result: whatever isn't plainly
the next frame ends the run and goes that way. Pure: no I/O, no clock.
"""

from collections import deque
from typing import NamedTuple, TypeVar

from archiver.core.segmentation import FrameWindow
from g3stream.contract.errors import ContractError
from g3stream.contract.headers import NUMBERED_FRAME_HEADERS, RecordHeaders
from g3stream.contract.message_headers import ConsumedHeaders, ConsumedMessage, headers_of

_HEADER_ORDER = list(NUMBERED_FRAME_HEADERS)
_SEQ, _NUM = _HEADER_ORDER.index("seq"), _HEADER_ORDER.index("num")
_MAX = 2**62
"""Far below the seq and num that the contract refuses."""


AnyMessage = TypeVar("AnyMessage", bound=ConsumedMessage)


class FrameRun(NamedTuple):
    """Consecutive frames."""

    times: list[int]
    """Of each frame, in ms."""
    values: list[bytes]
    """Of each frame."""
    headers: RecordHeaders
    """Of the last frame."""
    offset: int
    """Of the last frame."""
    bytes: int
    """Size of their messages."""


def take_run(
    messages: deque[AnyMessage], before: AnyMessage, headers: RecordHeaders, window: FrameWindow
) -> FrameRun | None:
    """Take from the messages the run that follows the frame `before`; None if the first one doesn't.

    `headers` are those of `before`. All headers but `seq` and `num` must be the same byte for byte, these two exactly
    the next ones, and the times within `window`.
    """
    raw, (kind, time) = _headers(before), before.timestamp()
    seq, num = headers.seq, headers.num
    if [name for name, _ in raw] != _HEADER_ORDER or num is None or max(seq, num) >= _MAX:
        return None
    before_seq, between, gap, until = raw[:_SEQ], raw[_SEQ + 1 : _NUM], window.gap_ms, window.until_ms
    times: list[int] = []
    values: list[bytes] = []
    size = offset = 0
    while messages:
        message = messages[0]
        found, (its_kind, when) = _headers(message), message.timestamp()
        if (
            its_kind != kind
            or len(found) != len(_HEADER_ORDER)
            or found[_SEQ] != ("seq", b"%d" % (seq + 1))
            or found[_NUM] != ("num", b"%d" % (num + 1))
            or found[:_SEQ] != before_seq
            or found[_SEQ + 1 : _NUM] != between
            or abs(when - time) > gap
            or when >= until
        ):
            break
        seq, num, time, offset = seq + 1, num + 1, when, message.offset() or 0
        times.append(when)
        values.append(message.value() or b"")
        size += len(message)
        messages.popleft()
    return FrameRun(times, values, headers._replace(seq=seq, num=num), offset, size) if times else None


def _headers(message: ConsumedMessage) -> ConsumedHeaders:
    try:
        return headers_of(message)
    except ContractError:
        return []
