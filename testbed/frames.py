"""All frames of a file or of a recorded stream."""

from io import BytesIO

from g3stream.frame_format.decoder import FrameDecoder
from g3stream.frame_format.layout import FrameFormatError


def decode_frames(data: bytes, max_frame_bytes: int = 1 << 28) -> list[bytes]:
    """Decode all of `data` into frames. Raises FrameFormatError if it isn't a sequence of whole frames."""
    decoder, source = FrameDecoder(max_frame_bytes), BytesIO(data)
    frames: list[bytes] = []
    while decoder.fill(source.readinto):
        frames += [bytes(frame) for frame in decoder.frames()]
    frames += [bytes(frame) for frame in decoder.frames()]
    if decoder.pending_bytes:
        raise FrameFormatError(f"the last frame is cut off after {decoder.pending_bytes} bytes")
    return frames
