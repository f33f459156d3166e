"""Untrusted text made safe for terminals and logs, such as file names, or texts of Kafka and senders. Pure."""

import json


def printable(text: str) -> str:
    """Return the text as one line, with Python's escape for each unprintable character, also a line end."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def printable_lines(text: str) -> str:
    """Return the text with unprintable characters escaped, except line ends."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Return equivalent JSON in one line, with JSON's escape for each unprintable character in its strings."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
