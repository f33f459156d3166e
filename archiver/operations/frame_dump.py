"""Frames as text, by spt3g, in a process of its own: a hostile frame can crash it."""

import struct
import subprocess
import sys
from contextlib import suppress
from types import TracebackType
from typing import IO, Self

_LENGTH = struct.Struct("<Q")


class DumpError(Exception):
    """A frame can't be shown; the message says why."""


class FrameDump:
    """Process that prints frames; a context manager. It is started again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def text_of(self, frame: bytes) -> str:
        """Return a frame's content, as spt3g-dump prints it. Raises DumpError."""
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):  # then it has ended
            process.stdin.write(_LENGTH.pack(len(frame)))
            process.stdin.write(frame)
            process.stdin.flush()
        text = _read(process.stdout)
        if text is not None:
            return text.decode(errors="replace")
        code = self._end()
        raise DumpError("spt3g crashed on it" if code < 0 else f"spt3g ended with exit code {code}")

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        return self._process

    def _end(self) -> int:
        """End the process, if there is one; return its exit code, negative for a signal."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(BrokenPipeError), process:  # waits for its end, which the closed stdin is
            assert process.stdin
            process.stdin.close()
        return process.returncode


def _read(stream: IO[bytes]) -> bytes | None:
    """Return the next message; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (size,) = _LENGTH.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None


def _print_frames() -> None:
    """Answer each frame on stdin with its text on stdout."""
    from g3stream.client.spt3g_frames import decode_frame

    while (frame := _read(sys.stdin.buffer)) is not None:
        try:
            text = str(decode_frame(frame))
        except Exception as error:  # noqa: BLE001 - whatever spt3g makes of it is the answer
            text = f"({type(error).__name__}: {error})"
        data = text.encode(errors="replace")
        sys.stdout.buffer.write(_LENGTH.pack(len(data)) + data)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _print_frames()
