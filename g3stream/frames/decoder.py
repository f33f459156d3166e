"""Bytes from a socket or a file → whole G3 frames, byte for byte as they came.

A frame (spt3g 1.0, G3Frame.cxx): u8 byte order (1 little, 0 big) · u32 class version (1) · i32 number of keys
· u32 type code · per key: u64 length, name, u64 length, blob · u32 CRC32C. Frames stand back to back. A length
is believed only as far as the limits below, and memory grows with the bytes that came, not with those promised.
"""

import struct
from collections.abc import Container, Iterator, Mapping
from typing import NamedTuple

import google_crc32c

FRAME_TYPES: Mapping[str, int] = {
    "Calibration": ord("C"),
    "EndProcessing": ord("Z"),
    "Ephemeris": ord("E"),
    "GcpSlow": ord("G"),
    "Housekeeping": ord("H"),
    "InstrumentStatus": ord("I"),
    "LightCurve": ord("L"),
    "Map": ord("M"),
    "Observation": ord("O"),
    "PipelineInfo": ord("P"),
    "Scan": ord("S"),
    "Statistics": ord("R"),
    "Timepoint": ord("T"),
    "Wiring": ord("W"),
    "none": ord("N"),
}
"""The type codes of the frame types that spt3g names (core.G3FrameType)."""

_TYPE_NAMES = {code: name for name, code in FRAME_TYPES.items()}

HEADER_BYTES = 13
MAX_KEYS = 100_000
"""A frame of a SMuRF has about 40. The limit keeps a hostile one from costing seconds."""
MAX_NAME_BYTES = 1 << 16

_READ_BYTES = 1 << 20
_GROW_BYTES = 16 << 20
_LEND_BYTES = 1 << 20
_KEEP_BYTES = 32 << 20
_KEEP_TIMES = 8
_EXPECT_BYTES = 64 << 20
_LONGEST_WANTED = 64
_JOIN_BYTES = 1 << 16
_PIECE_BYTES = 1 << 18  # a copy that stays in the processor's cache
_LENGTH = {1: struct.Struct("<Q"), 0: struct.Struct(">Q")}
_CRC = {1: struct.Struct("<I"), 0: struct.Struct(">I")}
_HEADER = {1: struct.Struct("<BIiI"), 0: struct.Struct(">BIiI")}


class WireError(ValueError):
    """What came is no G3 frame, or a larger one than is allowed: nothing after it can be trusted."""


class CutError(WireError):
    """What came is the beginning of a frame, and no more than that is there."""


class Splitter:
    """Cuts a byte stream into frames. Fill `space()`, say how much with `filled(n)`, then take `frames()`.

    A large frame is only lent, where it came in: it is good until `space` or `rest` is called.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        self._max = max_frame_bytes
        self._buffer = bytearray(_READ_BYTES)
        self._start = 0  # of the first frame that isn't whole yet
        self._end = 0  # of what was received
        self._lent: list[memoryview] = []
        self._large = 0  # bytes, of the last frame that was lent; 0: none was
        self._too_large = False  # the buffer, for the last frame
        self._walked = 0  # the first key of that frame not looked at yet; 0: nor its header
        self._keys = 0  # from there on

    @property
    def pending(self) -> int:
        """How many bytes of an unfinished frame are here."""
        return self._end - self._start

    def space(self) -> memoryview:
        """Where to put the next bytes, 512 KiB or more. Release it (`with`) before the next call of any method."""
        for view in self._lent:
            view.release()
        self._lent.clear()
        if self._too_large or len(self._buffer) - self._end < _READ_BYTES // 2:
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def rest(self) -> None:
        """Nothing comes for now: keep no memory for a large frame that may never be followed by another."""
        self._too_large = len(self._buffer) > _READ_BYTES
        self.space().release()

    def filled(self, count: int) -> None:
        """`count` bytes have been put into `space()`."""
        self._end += count

    def frames(self) -> Iterator[bytes | memoryview]:
        """The frames that are whole now, in order. Raises WireError where the bytes stop making sense."""
        while (end := self._frame_end()) is not None:
            self._walked = 0
            with memoryview(self._buffer) as view:
                frame = view[self._start : end]
            self._start = end
            if len(frame) < _LEND_BYTES:
                self._too_large = len(self._buffer) > _READ_BYTES
                with frame:
                    copy = bytes(frame)
                yield copy
            else:
                self._too_large = len(self._buffer) > min(_KEEP_BYTES, _KEEP_TIMES * len(frame))
                self._large = len(frame)
                self._lent.append(frame)
                yield frame

    def _frame_end(self) -> int | None:
        """Walk the first frame's keys as far as they have come; its end, if that is here."""
        at = self._walked
        if not at:
            if self._end - self._start < HEADER_BYTES:
                return None
            self._order, self._keys = self._header()
            at = self._start + HEADER_BYTES
        limit = self._start + self._max
        length_at = _LENGTH[self._order].unpack_from
        while self._keys:
            if self._end < at + 8:
                break
            (name_bytes,) = length_at(self._buffer, at)
            if name_bytes > MAX_NAME_BYTES:
                raise WireError(f"a key's name of {name_bytes} bytes")
            if self._end < at + 16 + name_bytes:
                break
            (blob_bytes,) = length_at(self._buffer, at + 8 + name_bytes)
            at += 16 + name_bytes + blob_bytes
            self._keys -= 1
            if at + 4 > limit:
                raise WireError(f"a frame of at least {at + 4 - self._start} bytes; allowed are {self._max}")
        self._walked = at
        return at + 4 if not self._keys and at + 4 <= self._end else None

    def _header(self) -> tuple[int, int]:
        order = self._buffer[self._start]
        if order not in _HEADER:
            raise WireError(f"no G3 frame: its byte order is {order}, not 0 or 1")
        _, version, keys, _ = _HEADER[order].unpack_from(self._buffer, self._start)
        if version != 1:
            raise WireError(f"no G3 frame: its class version is {version}, not 1")
        if not 0 <= keys <= MAX_KEYS:
            raise WireError(f"no G3 frame: it would have {keys} keys")
        return order, keys

    def _make_room(self) -> None:
        left = self.pending
        if self._start and (self._start >= _READ_BYTES // 2 or not left or self._too_large):
            self._buffer[:left] = self._buffer[self._start : self._end]
            self._walked = max(0, self._walked - self._start)
            self._start, self._end = 0, left
        if self._too_large and left <= _READ_BYTES // 2:
            del self._buffer[_READ_BYTES:]
        self._too_large = False
        if len(self._buffer) - self._end < _READ_BYTES // 2:
            # What the frame promises is believed as far as another one has kept it.
            expected = min(self._walked - self._start, self._large, _EXPECT_BYTES) + _READ_BYTES
            if expected - self._end >= _READ_BYTES // 2:
                # At once: to double it again and again copies it as often.
                small, self._buffer = self._buffer, bytearray(expected)
                self._buffer[: self._end] = small[: self._end]
            else:
                self._buffer += bytes(min(_GROW_BYTES, len(self._buffer)))


class Passed(NamedTuple):
    """A whole frame that has passed by. code: its type code. blobs: those that are wanted, by name. end: where in all
    that passes by it ends, bytes."""

    code: int
    blobs: dict[bytes, bytes]
    end: int


class Walk:
    """Looks at frames while their bytes pass by, and keeps none: where each ends, its CRC, a few short blobs.

    For files, of which there may be many and large ones. size: how many bytes there are in all; a frame that says it
    is longer is no frame. wanted: names, by their length; of a blob of more than 64 bytes nothing is given.
    """

    def __init__(self, size: int, wanted: Mapping[int, Container[bytes]]) -> None:
        self.frames = 0
        """How many have passed by, whole and with right CRCs."""
        self.begin = 0
        """Where the first frame begins that hasn't, bytes."""
        self._size = size
        self._wanted = wanted
        self._passed = 0  # bytes
        self._rest = b""  # of a block: less than what must be seen at once
        self._order = 1
        self._keys = -1  # still to come of this frame; -1: its header is
        self._blob_left = 0  # bytes still to come
        self._crc = 0
        self._code = 0
        self._found: dict[bytes, bytes] = {}

    def frames_of(self, block: bytes) -> Iterator[Passed]:
        """The frames that end in the next block. Take them all. Raises WireError, which says where, at the first byte
        that makes no sense, or frame whose CRC is wrong."""
        if self._rest:
            block = self._rest + block
        origin = self._passed - len(self._rest)  # of `block` in all that passes by
        self._passed = origin + len(block)
        self._rest = b""
        end, at = len(block), 0
        while at < end:
            if self._blob_left:
                piece = block[at : at + self._blob_left]
                self._crc = google_crc32c.extend(self._crc, piece)
                self._blob_left -= len(piece)
                at += len(piece)
            elif self._keys < 0:
                if end - at < HEADER_BYTES:
                    break
                self._header(block, at)
                at += HEADER_BYTES
            elif self._keys:
                after = self._keys_from(block, at, origin)
                if after == at:
                    break
                at = after
            else:
                if end - at < 4:
                    break
                if _CRC[self._order].unpack_from(block, at)[0] != self._crc ^ 0xFFFFFFFF:
                    raise WireError(self._at("its CRC is wrong"))
                at += 4
                self.frames += 1
                self.begin = origin + at
                self._keys = -1
                yield Passed(self._code, self._found, self.begin)
        self._rest = block[at:]

    def finish(self) -> None:
        """That was all. Raises WireError if a frame has only begun."""
        if self.begin < self._size:
            raise CutError(self._at("it is cut off"))

    def _header(self, block: bytes, at: int) -> None:
        self._order = block[at]
        if self._order not in _HEADER:
            raise WireError(self._at(f"no G3 frame, its byte order is {self._order}, not 0 or 1"))
        _, version, self._keys, self._code = _HEADER[self._order].unpack_from(block, at)
        if version != 1:
            raise WireError(self._at(f"no G3 frame, its class version is {version}, not 1"))
        if not 0 <= self._keys <= MAX_KEYS:
            raise WireError(self._at(f"no G3 frame, it would have {self._keys} keys"))
        self._crc = 0xFFFFFFFF
        self._found = {}

    def _keys_from(self, block: bytes, at: int, origin: int) -> int:
        """Walk the keys that begin here, to the end of the block, or of one whose blob goes on in the next; gives
        where it has come to."""
        length_at = _LENGTH[self._order].unpack_from
        end, last = len(block), self._size - 4 - origin
        parts: list[bytes] = []  # one call for many short ones: each call costs as much as 8 kB
        while self._keys:
            if end - at < 8:
                break
            (name_bytes,) = length_at(block, at)
            if name_bytes > MAX_NAME_BYTES:
                raise WireError(self._at(f"a key's name of {name_bytes} bytes"))
            blob_at = at + 16 + name_bytes
            if blob_at > end:
                break
            (blob_bytes,) = length_at(block, blob_at - 8)
            if blob_at + blob_bytes > last:
                raise CutError(self._at(f"it would end beyond byte {origin + blob_at + blob_bytes}"))
            name = block[at + 8 : blob_at - 8]
            if name_bytes in self._wanted and name in self._wanted[name_bytes]:
                short = blob_bytes <= _LONGEST_WANTED
                if short and blob_at + blob_bytes > end:
                    break
                self._found[name] = block[blob_at : blob_at + blob_bytes] if short else b""
            blob = block[blob_at : blob_at + blob_bytes]
            parts.append(name)
            if len(blob) <= _JOIN_BYTES:
                parts.append(blob)
            else:
                self._crc = google_crc32c.extend(google_crc32c.extend(self._crc, b"".join(parts)), blob)
                parts.clear()
            at = blob_at + len(blob)
            self._keys -= 1
            self._blob_left = blob_bytes - len(blob)
            if self._blob_left:
                break
        self._crc = google_crc32c.extend(self._crc, b"".join(parts))
        return at

    def _at(self, what: str) -> str:
        return f"frame {self.frames + 1}, at byte {self.begin}: {what}"


def frame_type(frame: bytes | memoryview) -> int:
    """The type code (u32) of a whole frame."""
    code: int = _HEADER[frame[0]].unpack_from(frame)[3]
    return code


def frame_type_name(code: int) -> str:
    """What spt3g calls frames of that type; any other u32 is given as a number."""
    return _TYPE_NAMES.get(code, str(code))


def checked(frame: bytes | memoryview, wanted: Mapping[int, Container[bytes]]) -> dict[bytes, bytes] | None:
    """Look through a whole frame: the blobs of those of its keys that are wanted, by name; None if its CRC is wrong.

    Its CRC32C is that of its names and blobs, in their order, as spt3g has it. wanted: names, by their length; of a
    blob of more than 64 kB nothing is given.
    """
    found = {}
    crc = 0xFFFFFFFF  # G3's starts from 0 and isn't inverted at the end; the usual one does, and is
    parts: list[bytes] = []  # one call for many short ones: each call costs as much as 8 kB
    at = HEADER_BYTES
    try:
        order = frame[0]
        length_at = _LENGTH[order].unpack_from
        _, version, keys, _ = _HEADER[order].unpack_from(frame)
        for _ in range(keys):
            (name_bytes,) = length_at(frame, at)
            blob_at = at + 16 + name_bytes
            name = bytes(frame[at + 8 : blob_at - 8])
            (blob_bytes,) = length_at(frame, blob_at - 8)
            at = blob_at + blob_bytes
            parts.append(name)
            if blob_bytes > _JOIN_BYTES:
                blob = b""  # of none that is wanted
                crc = google_crc32c.extend(crc, b"".join(parts))
                parts.clear()
                with memoryview(frame) as view:
                    for piece in range(blob_at, at, _PIECE_BYTES):
                        crc = google_crc32c.extend(crc, bytes(view[piece : min(piece + _PIECE_BYTES, at)]))
            else:
                blob = bytes(frame[blob_at:at])
                parts.append(blob)
            if name_bytes in wanted and name in wanted[name_bytes]:
                found[name] = blob
        said: int = _CRC[order].unpack_from(frame, at)[0]
    except (LookupError, struct.error):
        return None
    crc = google_crc32c.extend(crc, b"".join(parts))
    whole = version == 1 and keys >= 0 and at + 4 == len(frame)
    return found if whole and said == crc ^ 0xFFFFFFFF else None


def split(data: bytes, max_frame_bytes: int = 1 << 28) -> list[bytes]:
    """All of `data` as whole frames. Raises WireError if it isn't."""
    splitter = Splitter(max_frame_bytes)
    frames = []
    for at in range(0, len(data), _READ_BYTES // 2):
        piece = data[at : at + _READ_BYTES // 2]
        with splitter.space() as space:
            space[: len(piece)] = piece
        splitter.filled(len(piece))
        frames += [bytes(frame) for frame in splitter.frames()]
    if splitter.pending:
        raise WireError(f"the last frame is cut: {splitter.pending} bytes of it are here")
    return frames
