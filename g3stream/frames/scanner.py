"""Scanner of a file's G3 frames, block by block: their ends, their checksums, a few of their values.

A length is trusted only within the file's size, and no frame is kept in memory.
"""

from collections.abc import Container, Iterator
from typing import NamedTuple

from g3stream.frames.checksum import FrameReader
from g3stream.frames.layout import CRC_BYTES, HEADER_BYTES, FrameFormatError, TruncatedFrameError


class ScannedFrame(NamedTuple):
    """A whole frame with a correct CRC."""

    code: int
    """The type code."""
    blobs: dict[bytes, bytes]
    """The blobs of the wanted keys, by name."""
    end: int
    """The offset in the file at which the frame ends, bytes."""


class FrameScanner:
    """Scanner of one file's blocks, in order.

    size: the file's size, bytes; a frame can't end beyond it. wanted: as for FrameReader.
    """

    def __init__(self, size: int, wanted: Container[bytes] = ()) -> None:
        self.frames = 0
        """Number of frames that were whole and had a correct CRC."""
        self.frame_start = 0
        """The offset at which the next frame begins, bytes."""
        self._size = size
        self._wanted = wanted
        self._scanned_bytes = 0
        self._remainder = b""  # the end of a block, too short to be scanned without the next one
        self._reader: FrameReader | None = None  # of this frame, once its header was scanned

    def scan(self, block: bytes) -> Iterator[ScannedFrame]:
        """Yield the frames that end in the next block; exhaust the iterator.

        Raises FrameFormatError, with the position, at the first invalid byte or wrong CRC.
        """
        if self._remainder:
            block = self._remainder + block
        offset = self._scanned_bytes - len(self._remainder)  # of `block` in the file
        self._scanned_bytes = offset + len(block)
        self._remainder = b""
        end, at = len(block), 0
        while at < end:
            try:
                if self._reader is None:
                    if end - at < HEADER_BYTES:
                        break
                    self._reader = FrameReader(block, at, self._wanted)
                    at += HEADER_BYTES
                at = self._reader.read(block, at, offset, self._size)
                if not self._reader.ends_at(block, at):
                    break
            except FrameFormatError as error:
                raise self._at(error) from None
            at += CRC_BYTES
            self.frames += 1
            self.frame_start = offset + at
            frame, self._reader = ScannedFrame(self._reader.code, self._reader.blobs, self.frame_start), None
            yield frame
        self._remainder = block[at:]

    def finish(self) -> None:
        """End the scan. Raises TruncatedFrameError if the file ends in the middle of a frame."""
        if self.frame_start < self._size:
            raise self._at(TruncatedFrameError("it is cut off"))

    def _at(self, error: FrameFormatError) -> FrameFormatError:
        """Return the same error with the frame's number and position."""
        return type(error)(f"frame {self.frames + 1}, at byte {self.frame_start}: {error}")
