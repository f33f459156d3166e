"""The segmenter of a stream: decides, record by record, what is written to which file. Pure: no I/O, no clock.

Recording, replay and verify drive this one object; they differ in what they do with its decisions:

    decision = segmenter.decide(record, settings)    changes nothing
    if decision.close:                               finish the open file; call `on_closed`; decide the record again
    if decision.opens:                               begin the file `decision.path` with the frames of `head`
    if decision.writes:                              append the record
    segmenter.apply(decision)                        once that has succeeded

core/segmentation.py has the rules. Here they are joined with the frames that are repeated at the head of each file
(the carry), and with the fast path for runs: consecutive frames, each plainly the successor of the one before, as
nearly all are. `take_run` takes them at once: it compares only what can differ, and updates the state once. That
takes half the time of `decide` and `apply` for each frame, and must have the same result, as test_segmenter.py shows:
whatever isn't plainly the next frame ends the run and goes the long way.
"""

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Generic, NamedTuple, TypeVar

import google_crc32c
from msgspec.structs import replace

from archiver.core import segmentation
from archiver.core.checkpoint import FramePlace
from archiver.core.paths import start_and_number
from archiver.core.segmentation import NOT_RECORDED_TYPES, CloseReason, Settings, State
from g3stream.contract.headers import NUMBERED_FRAME_HEADERS, ConsumedMessage, Kind, RecordHeaders, headers_of
from g3stream.contract.sequence import Record
from g3stream.contract.topics import ContractError

_HEADER_ORDER = list(NUMBERED_FRAME_HEADERS)
_SEQ, _NUM = _HEADER_ORDER.index("seq"), _HEADER_ORDER.index("num")
_MAX = 2**62
"""Far below the seq and num that the contract refuses."""

AnyMessage = TypeVar("AnyMessage", bound=ConsumedMessage)


class CarriedFrame(NamedTuple):
    """A frame that is repeated at the head of the next files."""

    value: tuple[bytes, ...]
    """Its bytes, in chunks."""
    place: FramePlace
    """Where they were written last."""


Carry = Mapping[int, CarriedFrame]
"""The carried frames of a stream, by their type codes; one that can't be read any more is missing."""


class Decision(NamedTuple):
    """What is to be done with a record."""

    record: Record
    state: State
    """After it."""
    close: CloseReason | None = None
    """Why the open file must be finished before; then nothing else is decided yet."""
    writes: bool = False
    """Whether the record is written."""
    opens: bool = False
    """Whether a file begins with the record."""

    @property
    def leaves_out(self) -> bool:
        """Whether the record is a frame that its sender had sent before (names by session)."""
        headers = self.record.headers
        return not self.writes and headers.kind is Kind.FRAME and headers.type not in NOT_RECORDED_TYPES

    @property
    def path(self) -> str:
        """The path of the file that is open then, below the data directory."""
        return segmentation.path(self.state)

    @property
    def head_types(self) -> tuple[int, ...]:
        """The types of the frames to repeat at the head of the file that begins with the record, in order."""
        return segmentation.head_types(self.state, self.record.headers.type)


class FrameRun(NamedTuple, Generic[AnyMessage]):
    """Consecutive frames that only continue the open file."""

    times: list[int]
    """Of each frame, in ms."""
    values: list[bytes]
    """Of each frame."""
    last: AnyMessage
    """The last frame's message."""
    headers: RecordHeaders
    """Of the last frame."""
    offset: int
    """Of the last frame."""
    bytes: int
    """Size of the frames."""


class Segmenter:
    """The segmentation of one stream, continued at a state.

    carry: the frames to repeat. length: of the open file, in bytes; 0 if none is open.
    """

    def __init__(self, state: State, carry: Carry | None = None, length: int = 0) -> None:
        self.state = state
        """After the last record applied. Read-only for others."""
        self._carry = dict(carry or {})
        self._length = length

    def reset(self, state: State, carry: Carry | None = None) -> None:
        """Continue at another state, with no file open; carry: None to keep the present one."""
        self.state = state
        self._carry = self._carry if carry is None else dict(carry)
        self._length = 0

    def decide(self, record: Record, settings: Settings) -> Decision:
        """Decide what is to be done with the next record; settings: of an acquisition that begins with it."""
        headers, time_ms = record.headers, record.time_ms
        if why := segmentation.close_reason(self.state, headers, time_ms):
            return Decision(record, self.state, why)
        state, writes = segmentation.step(self.state, headers, time_ms, settings)
        return Decision(record, state, writes=writes, opens=writes and self.state.file is None)

    def head(self, decision: Decision) -> Carry:
        """Return the frames to repeat at the head of the file that is opened, in order, as far as there are any."""
        return {code: self._carry[code] for code in decision.head_types if code in self._carry}

    def apply(self, decision: Decision) -> None:
        """Continue after the decision's record: it has been written, if it was to be."""
        record, state = decision.record, decision.state
        if decision.opens:
            self._length = 0
            for frame_type, (value, before) in self.head(decision).items():
                self._carry[frame_type] = CarriedFrame(value, replace(before, path=decision.path, at=self._length))
                self._length += before.length
        self.state = state
        if decision.writes:
            size, code = record.bytes, record.headers.type
            if code is not None and segmentation.is_carried(state, record.headers):
                at = FramePlace(decision.path, self._length, size, crc_of(record.value), record.offset)
                self._carry[code] = CarriedFrame(record.value, at)
            self._length += size

    def on_closed(self, finished: str) -> None:
        """Continue after the open file. finished: its path, which has a higher number if its own was taken."""
        before = segmentation.path(self.state)
        self.state = segmentation.after_close(self.state, start_and_number(finished)[1])
        for code, (value, place) in self._carry.items():
            if place.path == before:
                self._carry[code] = CarriedFrame(value, replace(place, path=finished))
        self._length = 0

    def carried(self) -> Carry:
        """Return the frames that the next file repeats, in order."""
        return {code: self._carry[code] for code in self.state.carry if code in self._carry}

    def places(self) -> dict[int, FramePlace]:
        """Return where the frames that the next file repeats are, by their type codes."""
        return {code: frame.place for code, frame in self.carried().items()}

    def take_run(
        self, messages: deque[AnyMessage], before: AnyMessage, headers: RecordHeaders, max_frames: int = _MAX
    ) -> FrameRun[AnyMessage] | None:
        """Take from the messages the run that follows `before`, whose record was applied last; None if there is none.

        headers: those of `before`, a record of one message. max_frames: takes no more than these. All headers but
        `seq` and `num` must be the same byte for byte, these two exactly the next ones, and the times within the
        window in which frames only continue the file. The run counts as applied.
        """
        window, seq, num = segmentation.frame_window(self.state, headers), headers.seq, headers.num
        if not window or num is None or max(seq, num) >= _MAX:
            return None
        raw = headers_of(before)
        if [name for name, _ in raw] != _HEADER_ORDER:
            return None
        before_seq, between, (kind, time) = raw[:_SEQ], raw[_SEQ + 1 : _NUM], before.timestamp()
        gap, until, last_seq = window.gap_ms, window.until_ms, seq + max_frames
        times: list[int] = []
        values: list[bytes] = []
        with suppress(ContractError):  # headers that can't be read are no next frame's
            while messages and seq < last_seq:
                message = messages[0]
                found, (its_kind, when) = headers_of(message), message.timestamp()
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
                seq, num, time, before = seq + 1, num + 1, when, message
                times.append(when)
                values.append(message.value() or b"")
                messages.popleft()
        if not times:
            return None
        self.state = segmentation.advance(self.state, num, time)
        size = sum(map(len, values))
        self._length += size
        return FrameRun(times, values, before, headers._replace(seq=seq, num=num), before.offset() or 0, size)


def crc_of(value: tuple[bytes, ...]) -> int:
    """Return the CRC32C of these bytes."""
    crc = 0
    for part in value:
        crc = google_crc32c.extend(crc, part)
    return crc
