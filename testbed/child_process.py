"""Processes that don't outlive us, and ports for them to listen on."""

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

# The kernel kills this process when the thread that started it ends (1 is PR_SET_PDEATHSIG, kept over exec).
# If the parent is gone already nobody will send that signal, so look after asking for it.
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

    command: the program (a name on PATH or a path) and its arguments; the rest as for subprocess.Popen.
    It gets a session of its own, so that a Ctrl-C in the terminal reaches only us, and we stop it in order.
    Raises OSError if it can't be started.

    The request to the kernel is made in the child by a few lines of Python before exec: `preexec_fn` isn't
    safe in a process with threads, and Kafka's clients have many. The signal comes when the starting
    *thread* ends, so the child is started by a thread that then waits for it.
    """
    program = shutil.which(command[0])
    if program is None:
        raise FileNotFoundError(f"{command[0]} not found, or not executable")
    tether = [sys.executable, "-I", "-S", "-c", _EXEC_WITH_PARENT, str(os.getpid()), program, *command[1:]]
    started: Future[subprocess.Popen[bytes]] = Future()

    def live() -> None:
        try:
            process = subprocess.Popen(
                tether, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, start_new_session=True
            )
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=live, name=f"tether {Path(program).name}", daemon=True).start()
    return started.result()


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now. Raises OSError if there is none.

    Below the range from which the kernel takes ports for outgoing connections (32768 and up): one of those
    could sit on a broker's port while it restarts.
    """
    for port in SystemRandom().sample(range(10_000, 32_000), 200):
        if is_free(port):
            return port
    raise OSError("no free TCP port between 10000 and 32000")


def is_free(port: int) -> bool:
    """Whether nobody listens on that TCP port of 127.0.0.1."""
    with socket.socket() as probe:
        # As the broker does: connections that a stopped broker left in TIME_WAIT don't matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
