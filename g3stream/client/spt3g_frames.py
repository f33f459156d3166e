"""Frames as spt3g has them, from their bytes."""

try:
    from spt3g import core
except ModuleNotFoundError as error:
    raise ImportError("decoding frames needs spt3g: install g3-recorder's extra [spt3g]") from error

from g3stream.client.errors import FrameError


def decode_frame(value: bytes) -> core.G3Frame:
    """Return the frame of a record's value. Raises FrameError if spt3g can't read it.

    Its objects are deserialized only when they are used.
    """
    frame = core.G3Frame()
    try:
        frame._cereal_loads(value)
    except (RuntimeError, ValueError, MemoryError) as error:
        raise FrameError(f"spt3g can't read a frame of {len(value)} bytes: {error}") from None
    return frame
