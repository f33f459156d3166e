"""The command of `--on-file` in tests, which can be made to fail, hang or be slow, and the runs that it logs."""

import json
import sys
from pathlib import Path
from typing import Any

HOOK = Path(__file__).with_name("on_file_hook.py")


class Hook:
    """The hook of a test, and its runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "hook"
        self.directory.mkdir()
        self.flags = ("--on-file", f"{sys.executable} {HOOK} {self.directory}")

    def ask(self, what: str, text: str = "") -> None:
        """Make the hook do that from now on."""
        (self.directory / what).write_text(text)

    def ask_no_more(self, what: str) -> None:
        """Undo `ask`."""
        (self.directory / what).unlink()

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The runs that it has logged."""
        path = self.directory / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def paths(self, what: str = "end") -> list[str]:
        """Return the ends of the names of the files whose runs came to the step `what` so far."""
        begun: dict[int, str] = {}
        found = []
        for run in self.runs:
            if run["what"] == "begin":
                begun[run["pid"]] = run["event"]["path"][-7:]
            if run["what"] == what:
                found.append(begun[run["pid"]])
        return found
