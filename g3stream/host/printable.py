"""Text that may be anything, made fit for terminals and logs: names of files, what Kafka and senders say (pure)."""

import json


def printable(text: str) -> str:
    """The text in one line: each character that isn't printable (a line end, too) as Python's escape for it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """The same, but that its line ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """JSON in one line that means the same: each character in its strings that isn't printable as JSON's escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
