"""Cooperative cancellation of background work for one stream: the work itself looks whether it is still wanted.

Calls that can't look, as they wait in librdkafka or in a disk, are left behind instead (timeouts.py).
"""

import threading


class Cancelled(Exception):
    """The work was cancelled: the stream was revoked, or the archiver stops. Its next owner does the work again."""


class CancellationToken(threading.Event):
    """A cancellation token, set once a stream is released; for any thread."""

    def raise_if_cancelled(self, what: str) -> None:
        """Raise Cancelled, with `what`, if cancelled. To be called between steps, none of which takes long."""
        if self.is_set():
            raise Cancelled(what)
