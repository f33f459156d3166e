"""Bytes from a socket → whole G3 frames, byte for byte as they came.

Memory grows with the bytes that came, not with those that a length promises.
"""

from collections.abc import Iterator

from g3stream.frames.layout import (
    CRC_BYTES,
    HEADER_BYTES,
    LENGTH,
    MAX_NAME_BYTES,
    FrameFormatError,
    name_too_long,
    parse_header,
)


class FrameDecoder:
    """Cuts a byte stream into frames. Write into `writable_buffer()`, say how much with `advance(n)`, then take
    `frames()`.

    A large frame is a borrowed view of the buffer: it is valid until `writable_buffer` or `release_buffers` is
    called.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        # Plan:
        #
        #   |  given out  |  header, keys  |  keys to come …  |  free  |
        #   0             start            walked             end      len(buffer)
        #
        # Bytes are received into what is free. Each key of the first unfinished frame is looked at once: `walked`
        # stays where more bytes are needed, so that a frame in a thousand pieces isn't read a thousand times.
        #
        # A whole frame is given out from where it lies: a small one as a copy; a large one as a view, released by
        # the next `writable_buffer`, as a bytearray with views can't be resized.
        #
        # When less than half a read is free, what is unfinished moves to the beginning, if that frees half a read or
        # nothing is to be copied. If it isn't enough, the buffer grows: it doubles, by no more than 16 MiB at a time,
        # so that memory follows the bytes that came; or, as far as the last large frame was as long as this one says
        # it is, at once to that length.
        #
        # It shrinks to one read when it is too large for the frames that come, or nothing comes (`release_buffers`).
        self._max_bytes = max_frame_bytes
        self._buffer = bytearray(_READ_BYTES)
        self._frame_start = 0  # of the first frame that isn't whole yet
        self._received_end = 0  # of what was received
        self._borrowed: list[memoryview] = []
        self._last_borrowed_bytes = 0  # bytes, of the last frame that was lent; 0: none was
        self._oversized = False  # the buffer, for the last frame
        self._scan_position = 0  # the first key of that frame not looked at yet; 0: nor its header
        self._keys_left = 0  # from there on

    @property
    def pending_bytes(self) -> int:
        """Bytes received of a frame that isn't whole yet."""
        return self._received_end - self._frame_start

    def writable_buffer(self) -> memoryview:
        """Where to put the next bytes, 512 KiB or more. Release it (`with`) before the next call of any method."""
        for view in self._borrowed:
            view.release()
        self._borrowed.clear()
        if self._oversized or len(self._buffer) - self._received_end < _READ_BYTES // 2:
            self._reserve()
        return memoryview(self._buffer)[self._received_end :]

    def release_buffers(self) -> None:
        """Shrink the buffer while the connection is idle: a large frame may never be followed by another."""
        self._oversized = len(self._buffer) > _READ_BYTES
        self.writable_buffer().release()

    def advance(self, count: int) -> None:
        """Record that `count` bytes were written into `writable_buffer()`."""
        self._received_end += count

    def frames(self) -> Iterator[bytes | memoryview]:
        """The frames that are whole now, in order. Raises FrameFormatError where the bytes stop making sense."""
        while (end := self._find_frame_end()) is not None:
            self._scan_position = 0
            with memoryview(self._buffer) as view:
                frame = view[self._frame_start : end]
            self._frame_start = end
            if len(frame) < _BORROW_MIN_BYTES:
                self._oversized = len(self._buffer) > _READ_BYTES
                with frame:
                    copy = bytes(frame)
                yield copy
            else:
                self._oversized = len(self._buffer) > min(_KEEP_BUFFER_BYTES, _KEEP_BUFFER_TIMES * len(frame))
                self._last_borrowed_bytes = len(frame)
                self._borrowed.append(frame)
                yield frame

    def _find_frame_end(self) -> int | None:
        """Read the first frame's keys as far as they were received; return its end, or None if that wasn't."""
        at = self._scan_position
        if not at:
            if self._received_end - self._frame_start < HEADER_BYTES:
                return None
            self._byte_order, self._keys_left, _ = parse_header(self._buffer, self._frame_start)
            at = self._frame_start + HEADER_BYTES
        limit = self._frame_start + self._max_bytes
        length_at = LENGTH[self._byte_order].unpack_from
        while self._keys_left:
            if self._received_end < at + 8:
                break
            (name_bytes,) = length_at(self._buffer, at)
            if name_bytes > MAX_NAME_BYTES:
                raise name_too_long(name_bytes)
            if self._received_end < at + 16 + name_bytes:
                break
            (blob_bytes,) = length_at(self._buffer, at + 8 + name_bytes)
            at += 16 + name_bytes + blob_bytes
            self._keys_left -= 1
            if at + CRC_BYTES > limit:
                raise FrameFormatError(
                    f"a frame of at least {at + CRC_BYTES - self._frame_start} bytes; allowed are {self._max_bytes}"
                )
        self._scan_position = at
        return at + CRC_BYTES if not self._keys_left and at + CRC_BYTES <= self._received_end else None

    def _reserve(self) -> None:
        """Move, shrink, or grow, so that half a read is free; no view of the buffer may be left."""
        left = self.pending_bytes
        if self._frame_start and (self._frame_start >= _READ_BYTES // 2 or not left or self._oversized):
            self._buffer[:left] = self._buffer[self._frame_start : self._received_end]
            self._scan_position = max(0, self._scan_position - self._frame_start)
            self._frame_start, self._received_end = 0, left
        if self._oversized and left <= _READ_BYTES // 2:
            del self._buffer[_READ_BYTES:]
        self._oversized = False
        if len(self._buffer) - self._received_end < _READ_BYTES // 2:
            # What the frame promises is believed as far as another one has kept it.
            expected = (
                min(self._scan_position - self._frame_start, self._last_borrowed_bytes, _MAX_PREALLOCATED_BYTES)
                + _READ_BYTES
            )
            if expected - self._received_end >= _READ_BYTES // 2:
                # At once: to double it again and again copies it as often.
                small, self._buffer = self._buffer, bytearray(expected)
                self._buffer[: self._received_end] = small[: self._received_end]
            else:
                self._buffer += bytes(min(_GROW_BYTES, len(self._buffer)))


def decode_frames(data: bytes, max_frame_bytes: int = 1 << 28) -> list[bytes]:
    """All of `data` as whole frames. Raises FrameFormatError if it isn't."""
    decoder = FrameDecoder(max_frame_bytes)
    frames = []
    for at in range(0, len(data), _READ_BYTES // 2):
        piece = data[at : at + _READ_BYTES // 2]
        with decoder.writable_buffer() as space:
            space[: len(piece)] = piece
        decoder.advance(len(piece))
        frames += [bytes(frame) for frame in decoder.frames()]
    if decoder.pending_bytes:
        raise FrameFormatError(f"the last frame is cut: {decoder.pending_bytes} bytes of it are here")
    return frames


_READ_BYTES = 1 << 20
"""The buffer's size while frames are small; half of it is free for each read."""
_GROW_BYTES = 16 << 20
"""The most that the buffer grows by at a time, for bytes that nothing but a length promises."""
_BORROW_MIN_BYTES = 1 << 20
"""Frames of this size and more are lent from the buffer, shorter ones are copied."""
_KEEP_BUFFER_BYTES = 32 << 20
_KEEP_BUFFER_TIMES = 8
"""A buffer larger than _KEEP_BYTES, or than _KEEP_TIMES the last large frame, is too large after it."""
_MAX_PREALLOCATED_BYTES = 64 << 20
"""The most that is made free at once because the last large frame was as long."""
