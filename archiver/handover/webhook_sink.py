"""WebhookSink: posts the JSON of each event to a URL; after a 2xx answer it is done, else it is posted again."""

import http.client
import ssl
import threading

from archiver.core.events import Event, FileAdopted
from archiver.handover.on_file import SINK, Webhook
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.host.printable import printable
from g3stream.service.timeouts import call_unless_stopped

_RESPONSE_S = 30.0
"""So long nothing may come from the server: neither a connection, nor a piece of an answer."""
_MAX_REPORTED = 200


class WebhookSink:
    """Posts to the webhook. Redirects aren't followed: the one who is told must be the one who was named."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    @property
    def name(self) -> str:
        """As Sink's."""
        return SINK

    def wants(self, event: Event) -> bool:
        """As CommandSink's."""
        return not isinstance(event, FileAdopted)

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """As Sink's. An answer that is still awaited when it is aborted is left to come."""
        try:
            status, text = call_unless_stopped(abort, "webhook", lambda: self._post(pending))
        except TimeoutError:
            if abort.is_set():
                raise SinkError("aborted") from None
            raise SinkError(f"{self._webhook}: no answer for {_RESPONSE_S:.0f} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise SinkError(f"{self._webhook}: {error or type(error).__name__}") from None
        if not 200 <= status < 300:
            raise SinkError(f"{self._webhook} answers {status}{text and f': {text}'}")

    def _post(self, pending: PendingEvent) -> tuple[int, str]:
        """The answer's status, and how its text begins. Raises OSError, HTTPException."""
        connection = self._connection()
        try:
            headers = {"Content-Type": "application/json", "User-Agent": "g3-recorder"}
            connection.request("POST", self._webhook.target, pending.value, headers)
            answer = connection.getresponse()
            return answer.status, printable(answer.read(_MAX_REPORTED).decode(errors="replace").strip())
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._webhook.host, self._webhook.port
        if self._webhook.is_tls:
            return http.client.HTTPSConnection(host, port, timeout=_RESPONSE_S, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=_RESPONSE_S)
