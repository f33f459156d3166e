"""Integers and strings of a frame, read from their blobs without spt3g.

A blob must begin with exactly the bytes that spt3g 1.0 writes. spt3g's own deserializer isn't used, as it trusts the
lengths in a blob: an 86-byte frame took gigabytes of memory, and a deeply nested one crashed the process (SIGSEGV).
"""

import struct


def _value_prefix(order: str, class_name: bytes) -> bytes:
    """Return the bytes before the value in a scalar's blob: spt3g 1.0's cereal archive of a polymorphic pointer.

    u8 byte order · u32 new class · u64 length, class name · u32 new pointer · u32 version · u32 base's version.
    """
    return struct.pack(
        f"{order}BIQ{len(class_name)}sIII", order == "<", 1 << 31 | 1, len(class_name), class_name, 1 << 31 | 1, 1, 1
    )


_INTEGER = {_value_prefix(order, b"G3Int"): struct.Struct(f"{order}q") for order in "<>"}
_STRING = {_value_prefix(order, b"G3String"): struct.Struct(f"{order}Q") for order in "<>"}
_INTEGER_AT = len(_value_prefix("<", b"G3Int"))
_STRING_AT = len(_value_prefix("<", b"G3String"))


def integer(blob: bytes) -> int | None:
    """Return the value of a G3Int's blob; None if it is no G3Int."""
    value = _INTEGER.get(blob[:_INTEGER_AT])
    if value is None or len(blob) != _INTEGER_AT + value.size:
        return None
    number: int = value.unpack_from(blob, _INTEGER_AT)[0]
    return number


def string(blob: bytes) -> str:
    """Return the value of a G3String's blob; an empty string if it is no G3String."""
    length = _STRING.get(blob[:_STRING_AT])
    text = blob[_STRING_AT + 8 :]
    if length is None or len(blob) < _STRING_AT + 8 or length.unpack_from(blob, _STRING_AT)[0] != len(text):
        return ""
    return text.decode("ascii", "replace")
