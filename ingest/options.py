"""The options of a stream, for `ingest` and for the agents that read one."""

from collections.abc import Callable
from typing import Any

from g3stream.service.arguments import host, key_value, listen_endpoint, port, replication_factor, seconds, size


def stream_options(add_option: Callable[..., object], **several: Any) -> None:
    """Add the options of a stream. add_option: as ArgumentParser.add_argument. several: makes an option a list."""
    add_option("--address", type=host, default="localhost", metavar="HOST", help="the sender's host")
    add_option("--port", type=port, default="50000", help="the sender's TCP port")
    text = "wait for the sender to connect to us, instead of connecting to it"
    add_option("--listen", type=listen_endpoint, metavar="[HOST:]PORT", help=text)
    text = "close a connection on which nothing is received for so long, and reconnect"
    add_option("--timeout", type=seconds, default="5", metavar="SECONDS", help=text)
    text = "close a connection that announces a larger frame"
    add_option("--max-frame-size", type=size, default="256MiB", metavar="SIZE", help=text)
    text = "a setting of the topic, if it is created; several may be given"
    add_option("--topic-config", type=key_value, default=[], metavar="K=V", help=text, **several)
    text = "of the topic, if it is created; the broker's default if not given"
    add_option("--replication-factor", type=replication_factor, metavar="N", help=text)
    text = "the most that a stream's spool may take on disk, at least 1MiB; reading stops when it is 85%% full"
    add_option("--spool-size", type=size, default="16GiB", metavar="SIZE", help=text)
