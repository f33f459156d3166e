"""The commands that an operator types beside a recorder, as processes of their own."""

import subprocess

from tests.support.processes import Recorder, run_archiver


def archiver(recorder: Recorder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`archiver` with these arguments, and what came of it."""
    return run_archiver(recorder.servers, *arguments)


def close(recorder: Recorder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`archiver close` of the recorder's stream."""
    return archiver(recorder, "close", "--stream", recorder.stream, *arguments)
