"""The decoder's main loop: a request, an answer, until stdin ends."""

import os
import resource
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final

import numpy as np
import so3g

from .bins import binned
from .frames import MAX_VALUES, decode
from .look import numbers
from .samples import Scan, join
from .wire import read_message, write_message

_MAX_MEMORY_BYTES: Final = 4 << 30
"""Of address space, of which the libraries take 1 GB: a hostile frame ends this process, and not the host."""


def main() -> int:
    """Answer requests; return the exit code."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print mustn't be taken for an answer
    with suppress(ValueError, OSError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    with requests, answers:
        write_message(answers, {"so3g": str(so3g.__version__), "numpy": np.__version__})
        return _serve(requests, answers)


def _serve(requests: BinaryIO, answers: BinaryIO) -> int:
    while (request := read_message(requests)) is not None:
        fields, frames = request
        try:
            if "channels" in fields:
                write_message(answers, sums(frames, fields["channels"], int(fields["period_us"])))
            else:
                write_message(answers, *look(frames, float(fields["seconds"])))
        except MemoryError:
            write_message(answers, {"error": "the frames need more memory than the decoder may have"})
    return 0


def look(frames: Sequence[bytes], seconds: float) -> tuple[dict[str, Any], list[bytes]]:
    """Return the fields and parts of the answer to these frames."""
    scans: list[Scan] = []
    undecodable, why, values = 0, None, 0
    for data in reversed(frames):  # what is too much are the oldest
        try:
            scan = decode(data, MAX_VALUES - values)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is in a frame, the others are looked at
            undecodable += 1
            why = _in_words(error)
            continue
        values += scan.counts.size
        scans.append(scan)
    counted = {"undecodable": undecodable, "undecodable_why": why}
    samples = join(scans[::-1], seconds)
    if samples is None:
        return {"error": f"no Scan frame could be decoded: {why}" if why else "no samples in the Scan frames"}, []
    fields, parts = numbers(samples)
    return {**fields, **counted}, parts


def sums(frames: Sequence[bytes], names: Sequence[str], period_us: int) -> dict[str, Any]:
    """Return the fields of the answer with sums of these channels' samples in each frame."""
    found: list[dict[str, Any]] = []
    for data in frames:
        try:
            found.append(binned(decode(data), names, period_us))
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is in a frame, the others are decoded
            found.append({"why": _in_words(error)})
    return {"frames": found}


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
