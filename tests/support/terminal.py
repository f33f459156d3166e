"""Runs commands on real pseudo-terminals of a given size, as an operator sees them."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Sequence
from typing import Self

from tests.support.processes import SECONDS, eventually

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A terminal with a running `python -m` and these arguments. A context manager, which kills it at its end."""

    def __init__(
        self, arguments: Sequence[str], columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        unsized = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=subprocess.STDOUT,
            env={**unsized, "TERM": "xterm-256color", **(env or {})},
        )
        os.close(slave)
        self._shown = bytearray()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.exit_code()
        os.close(self._master)

    @property
    def text(self) -> str:
        """All that was shown, with its escapes."""
        return bytes(self._shown).decode(errors="replace")

    def await_next(self, text: str) -> None:
        """Wait until this text is shown, again."""
        begin = len(self._shown)
        wanted = text.encode()
        eventually(lambda: wanted in self._shown[begin:] or self._process.poll() is not None, f"{text} is shown")
        assert wanted in self._shown[begin:], f"it has ended: {self.text[-1000:]}"

    def interrupt(self) -> None:
        """Do as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def exit_code(self) -> int:
        """Wait for the command's end; return its exit code, negative for a signal."""
        code = self._process.wait(SECONDS)
        self._reading.join(SECONDS)
        return code

    def _read(self) -> None:
        while True:
            try:
                block = os.read(self._master, 1 << 16)
            except OSError:  # the program has closed the terminal
                return
            if not block:
                return
            self._shown += block


def on_terminal(
    arguments: Sequence[str], columns: int = 80, lines: int = 24, env: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run `python -m` with these arguments on a terminal; return its exit code, and the text with its escapes."""
    with Terminal(arguments, columns, lines, env) as terminal:
        code = terminal.exit_code()
    return code, terminal.text


def plain_lines(text: str) -> list[str]:
    """Return the lines of a terminal's text without colours."""
    return [line.rstrip() for line in _ESCAPES.sub("", text).splitlines()]
