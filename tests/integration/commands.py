"""The commands that an operator types beside a recorder, as processes of their own."""

import os
import subprocess
import sys

from processes import SECONDS, Recorder


def archiver(recorder: Recorder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`archiver` with these arguments, and what came of it; printed, for whoever reads of a failure."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("INGEST_", "ARCHIVER_", "LOGLEVEL"))}
    done = subprocess.run(
        [sys.executable, "-m", "archiver", *arguments],
        env={**clean, "KAFKA_BOOTSTRAP_SERVERS": recorder.servers},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(f"$ archiver {' '.join(arguments)}\n{done.stdout}{done.stderr}exit code {done.returncode}")
    assert "Traceback" not in done.stderr
    return done


def close(recorder: Recorder, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`archiver close` of the recorder's stream."""
    return archiver(recorder, "close", "--stream", recorder.stream, *arguments)
