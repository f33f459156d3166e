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

_LOOK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
_SHORT_LIFE_SECONDS = 3.0
"""Children that live no longer are started ever more rarely."""
_SEND_SECONDS = 2.0
_END_SECONDS = 3.0
_MOST_MESSAGES = 1000


class OcsSide:
    """A context manager. hello: what the child is told first. router: its address, as ws://host:port/path.

    obey: is given the child's commands, "start" or "stop", in a thread of ours.
    """

    def __init__(self, hello: Mapping[str, Any], router: str, obey: Callable[[str], None]) -> None:
        self._hello = hello
        url = urlsplit(router)
        self._router = url.hostname or "localhost", url.port or (443 if url.scheme == "wss" else 80)
        self._obey = obey
        self._closing = threading.Event()
        self._known = threading.Event()  # there is a status
        self._lock = threading.Lock()
        self._status: Mapping[str, Any] = {}
        self._messages: deque[tuple[int, Mapping[str, Any]]] = deque(maxlen=_MOST_MESSAGES)
        self._number = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._keep, name="ocs", daemon=True)

    def show(self, status: Mapping[str, Any]) -> None:
        """This is how the recorder is now."""
        with self._lock:
            self._status = status
            self._send({"status": status})
        self._known.set()

    def tell(self, message: Mapping[str, Any]) -> None:
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
        self._known.set()
        with self._lock:
            if self._socket:
                self._socket.shutdown(socket.SHUT_WR)  # it publishes what it has, and ends
        self._thread.join(_END_SECONDS)
        with self._lock:
            if self._child and self._child.poll() is None:
                self._child.kill()

    def _keep(self) -> None:
        self._known.wait()
        pause, said = _LOOK_SECONDS, False
        while not self._closing.is_set():
            if not self._router_answers():
                if not said:
                    log.warning("no OCS router answers at %s:%d; recording doesn't need it", *self._router)
                said, pause = True, _LOOK_SECONDS
                self._closing.wait(_LOOK_SECONDS)
                continue
            said = False
            begun = time.monotonic()
            code = self._serve()
            if time.monotonic() - begun > _SHORT_LIFE_SECONDS:
                pause = _LOOK_SECONDS
            if self._closing.is_set():
                return
            log.warning("the process that speaks OCS has ended (%d); starting another in %g s", code, pause)
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _router_answers(self) -> bool:
        try:
            socket.create_connection(self._router, timeout=_SEND_SECONDS).close()
        except OSError:
            return False
        return True

    def _serve(self) -> int:
        """Start a child and do as it says until it ends; gives its exit code."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(_SEND_SECONDS)
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
                    self._read(lines)
            with self._lock:
                self._socket = None
        return child.wait()

    def _read(self, lines: Any) -> None:
        for line in lines:
            said = json.loads(line)
            if "do" in said:
                log.info("OCS: %s", said["do"])
                self._obey(said["do"])
            if "published" in said:
                with self._lock:
                    while self._messages and self._messages[0][0] <= said["published"]:
                        self._messages.popleft()

    def _send(self, what: Mapping[str, Any]) -> None:
        """With the lock held."""
        if self._socket is None:
            return
        try:
            self._socket.sendall(json.dumps(what).encode() + b"\n")
        except OSError:  # it has ended, or hangs
            self._socket = None
            if self._child:
                self._child.kill()
