"""OnFileSink: runs a command for each event, or posts it to a URL; again until that succeeds.

A command gets the event's JSON on stdin, and the main values as environment variables. A URL gets the JSON; it has
succeeded if the answer is 2xx. No redirect is followed: events go only to the URL that the operator has given.
"""

import http.client
import logging
import shutil
import ssl
import threading
from contextlib import closing
from pathlib import Path

from archiver.core.events import Event, FileAdopted
from archiver.handover.command_run import run_command
from archiver.handover.on_file import SINK, Command, OnFile, Webhook
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.host.printable import printable
from g3stream.service.timeouts import call_unless_stopped

log = logging.getLogger(__name__)

_RESPONSE_S = 30.0
"""How long a server may send nothing: neither accept the connection, nor a part of an answer."""
_MAX_REPORTED = 200
"""The most bytes of an answer that an error quotes."""


class OnFileSink:
    """The sink of `--on-file`. root: the data directory."""

    name = SINK

    def __init__(self, on_file: OnFile, root: Path) -> None:
        self._on_file = on_file
        self._root = root
        if isinstance(on_file, Command) and shutil.which(program := on_file.argv[0]) is None:
            # No reason not to start: the program's file system may not be mounted yet.
            log.warning("%s: there is no program %s now; it is searched for again at each event", SINK, program)

    def wants(self, event: Event) -> bool:
        """As Sink's. Not adopted files: they were there, and handed over or not, before the archive recorded them."""
        return not isinstance(event, FileAdopted)

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """As Sink's."""
        if isinstance(self._on_file, Command):
            run_command(self._on_file, pending, self._root, abort)
        else:
            _post(self._on_file, pending.value, abort)


def _post(webhook: Webhook, value: bytes, abort: threading.Event) -> None:
    """Post an event. Raises SinkError if the answer isn't 2xx; on abort it is no longer waited for."""
    try:
        status, text = call_unless_stopped(abort, "webhook", lambda: _answer(webhook, value))
    except TimeoutError:
        if abort.is_set():
            raise SinkError("aborted") from None
        raise SinkError(f"{webhook}: no answer for {_RESPONSE_S:.0f} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise SinkError(f"{webhook}: {error or type(error).__name__}") from None
    if not 200 <= status < 300:
        raise SinkError(f"{webhook} answers {status}{text and f': {text}'}")


def _answer(webhook: Webhook, value: bytes) -> tuple[int, str]:
    """Post an event; return the answer's status and the start of its text. Raises OSError, HTTPException."""
    host, port = webhook.host, webhook.port
    if webhook.is_tls:
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, port, timeout=_RESPONSE_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_RESPONSE_S)
    with closing(connection):
        headers = {"Content-Type": "application/json", "User-Agent": "g3-recorder"}
        connection.request("POST", webhook.target, value, headers)
        answer = connection.getresponse()
        return answer.status, printable(answer.read(_MAX_REPORTED).decode(errors="replace").strip())
