"""The process that speaks OCS for a recorder, as the recorder sees it.

OCS runs an operation only once its agent has joined the router, and ends the agent some time after it has lost the
router. A recorder must do neither. So the agent that OCS sees is a child process, which only shows and commands. It
is started when the router answers, and again whenever it has ended, for whatever reason. Nothing is recorded in it.

Between them is a socket with lines of JSON. To the child: what it is, once; {"status": …} each second; {"message": …,
"number": …}, one for each event. From it: {"do": "start" or "stop"}; {"published": number}.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_MAX_BACKOFF_SECONDS = 10.0
_STABLE_SECONDS = 3.0
"""Children that live no longer are started ever more rarely."""
_SEND_TIMEOUT_SECONDS = 2.0
_END_TIMEOUT_SECONDS = 3.0
_MAX_MESSAGES = 1000


class OcsBridge:
    """A context manager. hello: what the child is told first. router: its address, as ws://host:port/path.

    on_command: is given the child's commands, "start" or "stop", in a thread of ours.
    """

    def __init__(self, hello: Mapping[str, Any], router: str, on_command: Callable[[str], None]) -> None:
        self._hello = hello
        url = urlsplit(router)
        self._router = url.hostname or "localhost", url.port or (443 if url.scheme == "wss" else 80)
        self._on_command = on_command
        self._closing = threading.Event()
        self._has_status = threading.Event()  # there is a status
        self._lock = threading.Lock()
        self._status: Mapping[str, Any] = {}
        self._messages: deque[tuple[int, Mapping[str, Any]]] = deque(maxlen=_MAX_MESSAGES)
        self._number = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._supervise_child, name="ocs", daemon=True)

    def update_status(self, status: Mapping[str, Any]) -> None:
        """This is how the recorder is now."""
        with self._lock:
            self._status = status
            self._send({"status": status})
        self._has_status.set()

    def publish(self, message: Mapping[str, Any]) -> None:
        """Something has happened, which is to be published once OCS can be reached; the last thousand are kept."""
        with self._lock:
            self._number += 1
            self._messages.append((self._number, message))
            self._send({"message": message, "number": self._number})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._has_status.set()
        with self._lock:
            if self._socket:
                self._socket.shutdown(socket.SHUT_WR)  # it publishes what it has, and ends
        self._thread.join(_END_TIMEOUT_SECONDS)
        with self._lock:
            if self._child and self._child.poll() is None:
                self._child.kill()

    def _supervise_child(self) -> None:
        self._has_status.wait()
        backoff_s, warned = _POLL_SECONDS, False
        while not self._closing.is_set():
            if not self._router_answers():
                if not warned:
                    log.warning("no OCS router answers at %s:%d; recording doesn't need it", *self._router)
                warned, backoff_s = True, _POLL_SECONDS
                self._closing.wait(_POLL_SECONDS)
                continue
            warned = False
            started_at = time.monotonic()
            code = self._run_child()
            if time.monotonic() - started_at > _STABLE_SECONDS:
                backoff_s = _POLL_SECONDS
            if self._closing.is_set():
                return
            log.warning("the process that speaks OCS has ended (%d); starting another in %g s", code, backoff_s)
            self._closing.wait(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_SECONDS)

    def _router_answers(self) -> bool:
        try:
            socket.create_connection(self._router, timeout=_SEND_TIMEOUT_SECONDS).close()
        except OSError:
            return False
        return True

    def _run_child(self) -> int:
        """Start a child and do as it says until it ends; gives its exit code."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(_SEND_TIMEOUT_SECONDS)
            # In a session of its own: a Ctrl-C in the terminal is for us alone. It ends when we end, by the socket.
            child = subprocess.Popen(
                [sys.executable, "-m", "g3_agents.bridge_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            with self._lock:
                self._child, self._socket = child, ours
                self._send({**self._hello, "status": self._status})
                for number, message in self._messages:
                    self._send({"message": message, "number": number})
            # A reader of its own: the timeout is for sending only.
            with os.fdopen(os.dup(ours.fileno()), "rb", buffering=0) as lines:
                os.set_blocking(lines.fileno(), True)
                with suppress(ConnectionResetError):  # it ended before it had read all that we told it
                    self._read_commands(lines)
            with self._lock:
                self._socket = None
        return child.wait()

    def _read_commands(self, lines: Any) -> None:
        for line in lines:
            message = json.loads(line)
            if "do" in message:
                log.info("OCS: %s", message["do"])
                self._on_command(message["do"])
            if "published" in message:
                with self._lock:
                    while self._messages and self._messages[0][0] <= message["published"]:
                        self._messages.popleft()

    def _send(self, message: Mapping[str, Any]) -> None:
        """With the lock held."""
        if self._socket is None:
            return
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # it has ended, or hangs
            self._socket = None
            if self._child:
                self._child.kill()
