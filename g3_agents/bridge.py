"""The recorder's side of the bridge to OCS: starts the process that OCS sees, and talks to it.

OCS runs an operation only after its agent has joined the router, and ends the agent some time after the router has
gone away. A recorder must not depend on either. So the agent that OCS sees is a child process, which only reports
status and passes on commands; nothing is recorded in it. It is started when the router answers, and restarted
whenever it ends.

They exchange lines of JSON over a socket. To the child: a first message with its configuration; {"status": …} each
second; {"message": …, "number": …} for each event. From the child: {"do": "start" or "stop"}; {"published": number};
{"monitor": {…}}, another choice of monitored channels.
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
from typing import Any, Self
from urllib.parse import urlsplit

from g3stream.log.throttle import LogThrottle
from g3stream.service.supervisor import Backoff, supervise

log = logging.getLogger(__name__)

_POLL_SECONDS = 1.0
_BACKOFF = Backoff(min_s=1.0, max_s=10.0, stable_s=3.0)
_NO_ROUTER_LOG_SECONDS = 3600.0
_SEND_TIMEOUT_SECONDS = 2.0
_END_TIMEOUT_SECONDS = 3.0
_MAX_MESSAGES = 1000


class _ChildEndedError(Exception):
    """The child has ended by itself."""


class OcsBridge:
    """The bridge to OCS, a context manager.

    hello: the first message to the child. router: its address, as ws://host:port/path. on_command: called with the
    child's commands, "start" or "stop", in a thread of the bridge. on_choice: with choices of monitored channels.
    """

    def __init__(
        self,
        hello: Mapping[str, Any],
        router: str,
        on_command: Callable[[str], None],
        on_choice: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._hello = hello
        url = urlsplit(router)
        self._router = url.hostname or "localhost", url.port or (443 if url.scheme == "wss" else 80)
        self._on_command = on_command
        self._on_choice = on_choice
        self._closing = threading.Event()
        self._has_status = threading.Event()
        self._lock = threading.Lock()
        self._status: Mapping[str, Any] = {}
        self._messages: deque[tuple[int, Mapping[str, Any]]] = deque(maxlen=_MAX_MESSAGES)
        self._number = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._supervise_child, name="ocs", daemon=True)

    def update_status(self, status: Mapping[str, Any]) -> None:
        """Send the recorder's current status."""
        with self._lock:
            self._status = status
            self._send({"status": status})
        self._has_status.set()

    def publish(self, message: Mapping[str, Any]) -> None:
        """Publish a message as soon as OCS can be reached; meanwhile the last thousand are kept."""
        with self._lock:
            self._number += 1
            self._messages.append((self._number, message))
            self._send({"message": message, "number": self._number})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._has_status.set()
        with self._lock:
            if self._socket:
                self._socket.shutdown(socket.SHUT_WR)  # the child publishes what it has, and ends
        self._thread.join(_END_TIMEOUT_SECONDS)
        with self._lock:
            if self._child and self._child.poll() is None:
                self._child.kill()

    def _supervise_child(self) -> None:
        self._has_status.wait()
        supervise(self._follow_router, _BACKOFF, self._closing, self._on_end)

    def _follow_router(self) -> None:
        """Run a child once the router answers. Raises _ChildEndedError, unless the bridge is being closed."""
        throttle = LogThrottle(_NO_ROUTER_LOG_SECONDS)
        while not self._router_answers():
            if throttle.due(time.monotonic()):
                log.warning("no OCS router answers at %s:%d; recording doesn't need it", *self._router)
            if self._closing.wait(_POLL_SECONDS):
                return
        code = self._run_child()
        if not self._closing.is_set():
            raise _ChildEndedError(f"the process for OCS has ended with exit code {code}")

    def _on_end(self, error: Exception, next_step: str) -> None:
        expected = isinstance(error, _ChildEndedError)
        log.warning("%s%s; recording continues", error, next_step, exc_info=None if expected else error)

    def _router_answers(self) -> bool:
        try:
            socket.create_connection(self._router, timeout=_SEND_TIMEOUT_SECONDS).close()
        except OSError:
            return False
        return True

    def _run_child(self) -> int:
        """Start a child and execute its commands until it ends. Returns its exit code."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(_SEND_TIMEOUT_SECONDS)
            # In a session of its own, as a Ctrl-C in the terminal is only for this process. The child ends when this
            # process ends, by the socket.
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
            # Duplicated, as the timeout is for sending only.
            with os.fdopen(os.dup(ours.fileno()), "rb", buffering=0) as lines:
                os.set_blocking(lines.fileno(), True)
                with suppress(ConnectionResetError):  # the child ended before it had read everything
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
            if "monitor" in message:
                self._on_choice(message["monitor"])
            if "published" in message:
                with self._lock:
                    while self._messages and self._messages[0][0] <= message["published"]:
                        self._messages.popleft()

    def _send(self, message: Mapping[str, Any]) -> None:
        """Send a message to the child, if there is one. With the lock held."""
        if self._socket is None:
            return
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:  # the child has ended, or hangs
            self._socket = None
            if self._child:
                self._child.kill()
