"""Child processes that are killed when this process ends, and free ports for them to listen on."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from random import SystemRandom
from typing import IO

HOST = "127.0.0.1"

# The kernel kills this process when the thread that started it ends (1 is PR_SET_PDEATHSIG, which exec keeps).
# If the parent has already ended, that signal is never sent: so the parent is checked after the request.
_EXEC_WITH_PARENT = """\
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def start_child_process(
    command: Sequence[str],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that is killed when this one ends in any way, kill -9 included.

    command: the program (a name on PATH or a path) and its arguments. The other arguments are subprocess.Popen's.
    The child has its own session, so that a Ctrl-C in the terminal reaches only this process, which then stops the
    child in order. Raises OSError if the program can't be started.

    A few lines of Python in the child make the request to the kernel before exec: `preexec_fn` isn't safe in a
    process with threads, and Kafka's clients have many. The signal is sent when the starting *thread* ends, so the
    child is started by a thread that then waits for it.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} not found, or not executable")
    wrapped = [sys.executable, "-I", "-S", "-c", _EXEC_WITH_PARENT, str(os.getpid()), program, *command[1:]]
    started: Future[subprocess.Popen[bytes]] = Future()

    def run() -> None:
        try:
            process = subprocess.Popen(
                wrapped, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
            )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=run, name=f"parent of {Path(program).name}", daemon=True).start()
    return started.result()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens. Raises OSError if there is none.

    It is below the range from which the kernel takes ports for outgoing connections (32768 and up): such a
    connection could take a broker's port while the broker restarts.
    """
    for port in SystemRandom().sample(range(10_000, 32_000), 200):
        if is_free(port):
            return port
    raise OSError("no free TCP port between 10000 and 32000")


def is_free(port: int) -> bool:
    """Whether nothing listens on this TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        # The broker sets it too: connections that a stopped broker left in TIME_WAIT don't matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
