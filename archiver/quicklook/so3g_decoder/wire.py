"""The messages to and from the decoder of quick look and of monitored channels, over its stdin and stdout.

    u32 length, big-endian · an object in JSON of that length · the parts, one after another

`parts` of the object is the list of their lengths. The decoder first sends a message with its versions, `so3g` and
`numpy`; then it answers each request with one message, until stdin ends.

A request has Scan frames as its parts, as spt3g serializes them, the newest last, and `seconds`: of how much of them
numbers are wanted. Its answer has the fields of a look (look.py) and two parts; or only `error`, in words.

A request with `channels`, their names, and `period_us`, the length of a time bin in µs, is answered without parts:
`frames` has for each frame either the sums of those channels (bins.py), or `why` it can't be decoded, in words.
"""

import json
import struct
from collections.abc import Mapping, Sequence
from typing import IO, Any, Final

MAX_FIELDS_BYTES: Final = 16 << 20
"""Of the JSON: the names and noise of 100,000 channels are 4 MB."""
MAX_PARTS: Final = 100_000
MAX_PARTS_BYTES: Final = 1 << 30
_LENGTH: Final = struct.Struct(">I")


class WireError(ValueError):
    """What arrives is no message."""


def write_message(stream: IO[bytes], fields: Mapping[str, Any], parts: Sequence[bytes] = ()) -> None:
    """Send a message. Raises OSError."""
    text = json.dumps({**fields, "parts": [len(part) for part in parts]}, allow_nan=False).encode()
    stream.write(_LENGTH.pack(len(text)) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
    """Return the fields and parts of the next message; None at the stream's end. Raises WireError, OSError."""
    start = stream.read(_LENGTH.size)
    if not start:
        return None
    if len(start) < _LENGTH.size:
        raise WireError("it ends in the middle of a message")
    [size] = _LENGTH.unpack(start)
    if size > MAX_FIELDS_BYTES:
        raise WireError(f"a message of {size:,} bytes of JSON")
    try:
        fields = json.loads(_read(stream, size))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise WireError(f"no JSON: {error}") from None
    lengths = fields.pop("parts", None) if isinstance(fields, dict) else None
    if not isinstance(lengths, list) or not all(type(it) is int and it >= 0 for it in lengths):
        raise WireError("a message without the lengths of its parts")
    if len(lengths) > MAX_PARTS or sum(lengths) > MAX_PARTS_BYTES:
        raise WireError(f"{len(lengths):,} parts of {sum(lengths):,} bytes")
    return fields, [_read(stream, length) for length in lengths]


def _read(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise WireError("it ends in the middle of a message")
    return found
