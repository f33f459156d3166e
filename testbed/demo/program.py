"""A program of the recorder as a process of the demo, which logs to a file."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from testbed.child_process import start_child_process

_STOP_SECONDS = 15.0


class DemoError(Exception):
    """Something doesn't run as it should. The message has the reason."""


class Program:
    """A process of ingest or archiver that logs to a file; killed at the end of the `with` block."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as file:
            self._process = start_child_process(
                [sys.executable, "-m", *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment()
            )

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Check that it runs. Raises DemoError if it has ended."""
        if (code := self._process.poll()) is not None:
            raise DemoError(f"{self.name} ended by itself, exit code {code}")

    def stop(self) -> None:
        """Stop it as an operator would, with SIGTERM. Raises DemoError if it doesn't end with exit code 0."""
        self.check()
        self._process.terminate()
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{self.name} doesn't end in {_STOP_SECONDS:g} s after SIGTERM") from None
        if code:
            raise DemoError(f"{self.name} ended with exit code {code}")

    def kill(self) -> None:
        """Kill it (SIGKILL) if it still runs."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def environment() -> dict[str, str]:
    """Return this process's environment, without the variables that set flags of ingest and archiver."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("INGEST_", "ARCHIVER_"))}
