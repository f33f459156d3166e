"""An archive as Simons Observatory's own software sees it: sotodlib in a process and an environment of its own."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.smurf.simulator import Simulator
from tests.support.processes import Program, Recorder, eventually

ARCHIVE = "timestreams"
"""What sotodlib calls the directory of detector data; so are here the archive's data directory and its group."""
STREAM_ID = "ufm_uv22"
PARTIAL = ("--time-per-file", "1")
"""Of an archiver: many files, soon."""
_READER = Path(__file__).with_name("reader.py")
_SECONDS = 150


class Analysis:
    """It, run by that Python. What it reads is a site's directory, with the archive in `timestreams`."""

    def __init__(self, python: Path) -> None:
        self._python = python

    def index(self, site: Path) -> dict[str, Any]:
        """One pass of G3tSmurf; see reader.py for what is answered."""
        found: dict[str, Any] = self._read("index", str(site))
        return found

    def update(self, site: Path) -> dict[str, Any]:
        """What sotodlib's update_g3tsmurf_db does, all of it."""
        found: dict[str, Any] = self._read("update", str(site))
        return found

    def transfer(self, site: Path, node: Path) -> dict[str, Any]:
        """Have suprsync copy all files that are registered to a node, and finalize what is complete."""
        found: dict[str, Any] = self._read("transfer", str(site), str(node))
        return found

    def timecodes(self, site: Path) -> list[list[Any]]:
        """The complete ones, as index_timecodes finds them: stream, timecode, and the agent that reports it."""
        found: list[list[Any]] = self._read("timecodes", str(site))
        return found

    def _read(self, *arguments: str) -> Any:
        # Python's own variables are ours; HOME is where astropy and matplotlib keep what they look for there.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            [self._python, str(_READER), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        print(f"$ reader.py {' '.join(arguments)}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0
        return json.loads(done.stdout)


class Session:
    """What a simulator has sent of a session; counted, as commands are given."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.id = 0
        self.last = 0
        """The newest frame_num."""
        self.samples = 0
        """Of each channel."""

    def command(self, *lines: str) -> "Session":
        """Have the simulator do these."""
        for line in lines:
            self.count(self._simulator.command(line))
        return self

    def count(self, sent: dict[str, Any]) -> None:
        """Count what a command has sent, by its answer."""
        self.samples += sent["samples"]
        if sent["frames"]:
            self.id, self.last = sent["session"], sent["last"]

    def published(self, recorder: Recorder) -> None:
        """Return when Kafka has its newest frame."""

        def there() -> bool:
            return any((label.session, label.num) == (self.id, self.last) for label, _, _ in recorder.records())

        eventually(there, f"frame {self.last} of session {self.id} is in the topic")


def finished_sessions(archiver: Program, count: int = 1) -> None:
    """Return when the archiver has come to that many ENDs, and finished the files."""
    archiver.await_line(r"finished \S+ \(end\)", count=count)


def names(session: int, count: int, stream: str = STREAM_ID) -> list[str]:
    """Where sotodlib looks for the files of a session."""
    return [f"{str(session)[:5]}/{stream}/{session}_{number:03}.g3" for number in range(count)]


def ended(session: Session, files: Sequence[str], first: int = 0) -> dict[str, Any]:
    """An observation that is complete, as it is reported. first: the first sample that was recorded."""
    return {
        "id": f"obs_{STREAM_ID}_{session.id}",
        "ended": True,
        "samples": session.samples - first,
        "timing": True,
        "tag": "obs,cmb",
        "tunesets": 1,
        "files": list(files),
        "channels": 64,
        "counted": [first, session.samples],
        "steps": [1],
        "steps_ms": [5.0],
        "booked": session.samples - first,
        "gaps": 0,
    }
