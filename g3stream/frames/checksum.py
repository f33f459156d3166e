"""The checksum of a G3 frame: CRC32C of its names and blobs, in order, as spt3g computes it."""

import struct
from collections.abc import Container, Mapping

import google_crc32c

from g3stream.frames.layout import CRC, CRC_BYTES, HEADER, HEADER_BYTES, LENGTH

CRC_START = 0xFFFFFFFF
"""The start value, and the XOR at the end, that turn google_crc32c's CRC into G3's. The usual CRC32C starts from all
ones and is inverted at the end; G3's starts from 0 and is not inverted."""
JOIN_BYTES = 1 << 16
"""Names and blobs up to this size are joined before the CRC is computed: each call costs as much as 8 kB of data."""


def verify_checksum_and_read(
    frame: bytes | memoryview, wanted: Mapping[int, Container[bytes]]
) -> dict[bytes, bytes] | None:
    """Verify a whole frame's checksum and return the blobs of its wanted keys, by name; None if it is wrong.

    wanted: names, by their length. A blob of more than 64 kB is returned empty.
    """
    found = {}
    crc = CRC_START
    parts: list[bytes] = []  # see JOIN_BYTES
    at = HEADER_BYTES
    try:
        order = frame[0]
        length_at = LENGTH[order].unpack_from
        _, version, keys, _ = HEADER[order].unpack_from(frame)
        for _ in range(keys):
            (name_bytes,) = length_at(frame, at)
            blob_at = at + 16 + name_bytes
            name = bytes(frame[at + 8 : blob_at - 8])
            (blob_bytes,) = length_at(frame, blob_at - 8)
            at = blob_at + blob_bytes
            parts.append(name)
            if blob_bytes > JOIN_BYTES:
                blob = b""  # no wanted blob is that long
                crc = google_crc32c.extend(crc, b"".join(parts))
                parts.clear()
                with memoryview(frame) as view:
                    for piece in range(blob_at, at, _COPY_BYTES):
                        crc = google_crc32c.extend(crc, bytes(view[piece : min(piece + _COPY_BYTES, at)]))
            else:
                blob = bytes(frame[blob_at:at])
                parts.append(blob)
            if name_bytes in wanted and name in wanted[name_bytes]:
                found[name] = blob
        stored_crc: int = CRC[order].unpack_from(frame, at)[0]
    except (LookupError, struct.error):
        return None
    crc = google_crc32c.extend(crc, b"".join(parts))
    whole = version == 1 and keys >= 0 and at + CRC_BYTES == len(frame)
    return found if whole and stored_crc == crc ^ CRC_START else None


_COPY_BYTES = 1 << 18  # a copy that stays in the processor's cache
