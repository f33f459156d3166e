"""The commands that an operator runs beside a recorder, as processes."""

import subprocess

from tests.support.processes import Recorder, run_archiver


def archiver(recorder: Recorder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `archiver` with these arguments; return its result."""
    return run_archiver(recorder.servers, *arguments)


def close(recorder: Recorder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `archiver close` for the recorder's stream; return its result."""
    return archiver(recorder, "close", "--stream", recorder.stream, *arguments)
