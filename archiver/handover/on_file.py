"""The value of `--on-file`: a command to run, or a URL to post to, for each event. Pure; no Kafka."""

import argparse
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from g3stream.service import arguments

SINK = "on-file"
"""The sink's name, and so its position's: the same whatever the command is."""


@dataclass(frozen=True, slots=True)
class Command:
    """A program and its arguments, run without a shell."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        """Return the command as it is typed at a shell."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Webhook:
    """A URL that takes a POST."""

    host: str
    port: int
    target: str
    """Path and query."""
    is_tls: bool

    def __str__(self) -> str:
        """Return the URL for the log: without the query, which may hold a token."""
        scheme = "https" if self.is_tls else "http"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}{self.target.partition('?')[0]}"


OnFile = Command | Webhook


def on_file(text: str) -> OnFile:
    """Type of the flag --on-file."""
    if text.lower().startswith(("http://", "https://")):
        return _webhook(text)
    try:
        argv = tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} can't be split into words: {error}") from None
    if not argv or not argv[0] or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a command nor a URL")
    return Command(argv)


def _webhook(text: str) -> Webhook:
    try:
        url = urlsplit(text)
        host, port = arguments.host(url.hostname or ""), url.port
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError("that is no URL; say for example http://host:8080/path") from None
    if "@" in url.netloc:
        # Not quoted: it is a secret.
        raise argparse.ArgumentTypeError(
            "a URL with a password would be seen in the list of processes; use a command"
        )
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    if not (target.isascii() and target.isprintable()) or " " in target:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL; say for example http://host:8080/path")
    is_tls = url.scheme == "https"
    return Webhook(host, port or (443 if is_tls else 80), target, is_tls)
