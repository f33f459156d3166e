"""Cooperative cancellation of background work for one stream: the work itself looks whether it is still wanted.

Calls that can't look, as they wait in librdkafka or in a disk, are left behind instead (timeouts.py).
"""

import threading


class AbandonedError(Exception):
    """The work was cancelled: the stream was revoked, or the archiver stops. Its next owner does the work again."""


class Abandoned(threading.Event):
    """A cancellation token, set once a stream is released; for any thread."""

    def check(self, what: str) -> None:
        """Raise AbandonedError, with `what`, if cancelled. To be called between steps, none of which takes long."""
        if self.is_set():
            raise AbandonedError(what)
