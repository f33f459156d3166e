"""Cooperative cancellation of background work for one stream: the work checks a token between its steps.

A call that can't check one, as it waits for librdkafka or a disk, is abandoned instead (timeouts.py).
"""

import threading


class Cancelled(Exception):
    """The work was cancelled: the stream was revoked, or the archiver stops. The next owner repeats the work."""


class CancellationToken(threading.Event):
    """A token that is set when a stream is released; for any thread."""

    def raise_if_cancelled(self, what: str) -> None:
        """Raise Cancelled, with `what`, if the token is set; call this between short steps."""
        if self.is_set():
            raise Cancelled(what)
