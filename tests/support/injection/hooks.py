"""What `--on-file` runs in a test: asked to fail, hang or be slow, and what it was run for."""

import json
import sys
from pathlib import Path
from typing import Any

HOOK = Path(__file__).with_name("on_file_hook.py")


class Hook:
    """The hook of a test, and what it was run for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "hook"
        self.directory.mkdir()
        self.flags = ("--on-file", f"{sys.executable} {HOOK} {self.directory}")

    def ask(self, what: str, text: str = "") -> None:
        """It is to do that from now on."""
        (self.directory / what).write_text(text)

    def ask_no_more(self, what: str) -> None:
        """It isn't any longer."""
        (self.directory / what).unlink()

    @property
    def runs(self) -> list[dict[str, Any]]:
        """What it has noted."""
        path = self.directory / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def paths(self, what: str = "end") -> list[str]:
        """Of which files the runs were that came so far, by the ends of their names."""
        begun: dict[int, str] = {}
        found = []
        for run in self.runs:
            if run["what"] == "begin":
                begun[run["pid"]] = run["event"]["path"][-7:]
            if run["what"] == what:
                found.append(begun[run["pid"]])
        return found
