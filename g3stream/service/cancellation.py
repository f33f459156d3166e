"""The word to other threads that nobody wants any more what they do for a stream."""

import threading


class AbandonedError(Exception):
    """The stream was given away meanwhile, or the archiver stops; whoever has it next does all of this again."""


class Abandoned(threading.Event):
    """Set once a recording is let go of; for any thread."""

    def check(self, what: str) -> None:
        """To be called between two steps, none of which takes long. Raises AbandonedError, with `what`."""
        if self.is_set():
            raise AbandonedError(what)
