"""WebhookSink: posts the JSON of each event to a URL, again until the answer is 2xx."""

import http.client
import ssl
import threading

from archiver.handover.on_file import Webhook
from archiver.handover.on_file_sink import OnFileSink
from archiver.handover.sink import PendingEvent, SinkError
from g3stream.host.printable import printable
from g3stream.service.timeouts import call_unless_stopped

_RESPONSE_S = 30.0
"""How long the server may send nothing: neither accept the connection, nor a part of an answer."""
_MAX_REPORTED = 200
"""The most bytes of an answer that an error quotes."""


class WebhookSink(OnFileSink):
    """Posts to the webhook. It follows no redirect: events go only to the URL that the operator has given."""

    def __init__(self, webhook: Webhook) -> None:
        self._webhook = webhook

    def deliver(self, pending: PendingEvent, abort: threading.Event) -> None:
        """As Sink's. On abort the answer is no longer waited for."""
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
        """Post the event; return the answer's status and the start of its text. Raises OSError, HTTPException."""
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
