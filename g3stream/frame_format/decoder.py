"""Decoder of a byte stream from a socket into whole G3 frames, unchanged byte for byte.

Memory grows with the bytes received, not with the length that a frame claims.
"""

from collections.abc import Callable, Iterator

from g3stream.frame_format.layout import CRC_BYTES, HEADER_BYTES, FrameFormatError, parse_header, parse_keys


class FrameDecoder:
    """Decoder of a byte stream: call `fill`, then iterate over `frames()`.

    A large frame is a borrowed view of the buffer, valid until the next call of `fill` or `release_buffers`.
    """

    def __init__(self, max_frame_bytes: int) -> None:
        # Plan:
        #
        #   |  yielded  |  header, keys  |  keys not scanned …  |  free  |
        #   0           frame_start      scan_position          received_end
        #
        # Bytes are received into the free part. Each key of the first incomplete frame is scanned once:
        # `scan_position` stays where more bytes are needed, so that a frame in a thousand pieces isn't scanned a
        # thousand times.
        #
        # A whole frame is yielded from its place in the buffer: a small one as a copy; a large one as a view, which
        # the next `fill` releases, as a bytearray with views can't be resized.
        #
        # When less than half a read is free, the incomplete frame moves to the beginning, if that frees half a read
        # or nothing need be copied. If that isn't enough, the buffer grows: it doubles, by 16 MiB at most at a time,
        # so that memory follows the bytes received; or it grows at once to the length that the frame claims, up to
        # the length of the last large frame.
        #
        # It shrinks to one read when it is too large for recent frames, or on `release_buffers`.
        self._max_bytes = max_frame_bytes
        self._buffer = bytearray(_READ_BYTES)
        self._frame_start = 0  # of the first incomplete frame
        self._received_end = 0  # end of the received bytes
        self._borrowed: list[memoryview] = []
        self._last_borrowed_bytes = 0  # length of the last borrowed frame; 0: there was none
        self._oversized = False  # whether the buffer was too large for the last frame
        self._scan_position = 0  # the first key of the incomplete frame not scanned yet; 0: nor its header
        self._keys_left = 0  # keys from there on

    @property
    def pending_bytes(self) -> int:
        """Bytes received of a frame that is still incomplete."""
        return self._received_end - self._frame_start

    def fill(self, read: Callable[[memoryview], int]) -> bool:
        """Read all that is there, as far as the buffer has space: the more at once, the less each frame costs.

        read: puts bytes into the space that it is given, 512 KiB or more at first, and returns their number; 0 at the
        end. Returns False at the end, and True if the space is used up, or `read` has raised BlockingIOError.
        """
        for borrowed in self._borrowed:
            borrowed.release()
        self._borrowed.clear()
        if self._oversized or len(self._buffer) - self._received_end < _READ_BYTES // 2:
            self._reserve()
        with memoryview(self._buffer) as view:
            while self._received_end < len(view):
                try:
                    count = read(view[self._received_end :])
                except BlockingIOError:
                    break
                if not count:
                    return False
                self._received_end += count
        return True

    def release_buffers(self) -> None:
        """Shrink the buffer while the connection is idle; there may be no second large frame."""
        self._oversized = len(self._buffer) > _READ_BYTES
        self.fill(lambda _: 0)

    def frames(self) -> Iterator[bytes | memoryview]:
        """Yield the frames that are complete now, in order. Raises FrameFormatError at bytes that are no frame."""
        while True:
            at, keys_left = self._scan_position, self._keys_left
            if not at:
                if self._received_end - self._frame_start < HEADER_BYTES:
                    return
                self._byte_order, keys_left, _ = parse_header(self._buffer, self._frame_start)
                at = self._frame_start + HEADER_BYTES
            limit = self._frame_start + self._max_bytes - CRC_BYTES
            for _, key_end in parse_keys(self._buffer, at, self._received_end, self._byte_order, keys_left):
                at = key_end
                keys_left -= 1
                if at > limit:
                    size = at + CRC_BYTES - self._frame_start
                    raise FrameFormatError(f"a frame of at least {size} bytes; allowed are {self._max_bytes}")
            end = at + CRC_BYTES
            if keys_left or end > self._received_end:
                self._scan_position, self._keys_left = at, keys_left
                return
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

    def _reserve(self) -> None:
        """Move, shrink, or grow the buffer so that half a read is free; no view of it may exist."""
        left = self.pending_bytes
        if self._frame_start and (self._frame_start >= _READ_BYTES // 2 or not left or self._oversized):
            self._buffer[:left] = self._buffer[self._frame_start : self._received_end]
            self._scan_position = max(0, self._scan_position - self._frame_start)
            self._frame_start, self._received_end = 0, left
        if self._oversized and left <= _READ_BYTES // 2:
            del self._buffer[_READ_BYTES:]
        self._oversized = False
        if len(self._buffer) - self._received_end < _READ_BYTES // 2:
            # The claimed length is trusted up to that of an earlier frame that was really received.
            expected = (
                min(self._scan_position - self._frame_start, self._last_borrowed_bytes, _MAX_PREALLOCATED_BYTES)
                + _READ_BYTES
            )
            if expected - self._received_end >= _READ_BYTES // 2:
                # At once: each doubling would copy the buffer again.
                small, self._buffer = self._buffer, bytearray(expected)
                self._buffer[: self._received_end] = small[: self._received_end]
            else:
                self._buffer += bytes(min(_GROW_BYTES, len(self._buffer)))


_READ_BYTES = 1 << 20
"""The buffer's size while frames are small; half of it is free for each read."""
_GROW_BYTES = 16 << 20
"""The most that the buffer grows by at a time on the word of a frame's length alone."""
_BORROW_MIN_BYTES = 1 << 20
"""Frames of this size and more are yielded as views of the buffer; smaller ones are copied."""
_KEEP_BUFFER_BYTES = 32 << 20
_KEEP_BUFFER_TIMES = 8
"""After a large frame, a buffer is too large if it exceeds _KEEP_BUFFER_BYTES, or _KEEP_BUFFER_TIMES that frame."""
_MAX_PREALLOCATED_BYTES = 64 << 20
"""The most that is allocated at once because the last large frame was that long."""
