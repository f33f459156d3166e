"""Serve a stream from Kafka to any number of spt3g readers, as the sender would:

  core.G3Reader("tcp://HOST:PORT")          or ingest --address HOST --port PORT

so that live viewers need no connection to the detector's host. A process of its
own that joins no group and only reads; nothing else notices if it is down.

A client gets what a G3NetworkSender sends: first the latest frame of each type
but Scan and Timepoint, then every frame, byte for byte. It is disconnected when
the sender's connection ends. A client that is too slow is disconnected, never
skipped: its frames would be more than --buffer, which all clients share, or it
has accepted nothing for 30 s. No client holds up another. All of it, and how to
chain a second site: docs/operate/relay.md.

With --since each client gets all from that time on, at its own pace, and then
what comes; and isn't disconnected when the sender's connection ends.

examples:
  archiver relay --stream crate1slot2 --listen 4532
  archiver relay --stream crate1slot2 --listen 0.0.0.0:4532 --http 9104
  archiver relay --stream crate1slot2 --listen 4533 --since -10m
  archiver relay --stream crate1slot2 --listen 4534 --max-rate 500kB
  archiver relay --stream crate1slot2 --listen 4535 --only Scan Observation
"""

import argparse
from datetime import UTC
from typing import Final

from archiver.console.arguments import command_parser
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.host.environment import now_ms
from g3stream.host.times import parse_time
from g3stream.service.arguments import EnvArgumentParser, flag_type, http_endpoint, size, stream_flag

_MAX_CLIENTS: Final = 64
_MAX_CLIENTS_SINCE: Final = 8
"""Each has a Kafka client of its own."""
_MOST_CLIENTS: Final = 1000


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "relay",
        __doc__,
        fine="stopped by a signal",
        wrong="can't run, for the reason logged",
        act="archiver.relay.service:serve",
        check=_check,
    )
    flags.add_option("--stream", type=stream_flag, required=True, metavar="NAME", help="the stream to serve")
    what = "where readers connect; only from this host if no HOST is given"
    flags.add_option("--listen", type=http_endpoint, required=True, metavar="[HOST:]PORT", help=what)
    what = "give each client the stream from this time on: 2026-11-22T21:30:00, today, 21:30 (the last one), in UTC, "
    what += "Unix seconds, or -1h30m (s, m, h, d, w) before it connects"
    flags.add_option("--since", type=flag_type(_time), metavar="T", help=what)
    what = "send only frames of these types"
    flags.add_option(
        "--only", action="extend", nargs="+", choices=sorted(FRAME_TYPES), default=[], metavar="TYPE", help=what
    )
    what = "bytes a second to each client: Scan and Timepoint frames beyond it are left out, others never"
    flags.add_option("--max-rate", type=size, metavar="SIZE", help=what)
    what = "how much of the newest frames is kept for clients that are slower than the stream"
    flags.add_option("--buffer", type=size, default="64MB", metavar="SIZE", help=what)
    what = f"how many may be connected; {_MAX_CLIENTS} if not given, with --since {_MAX_CLIENTS_SINCE}"
    flags.add_option("--max-clients", type=_count, metavar="N", help=what)
    what = "serve /metrics for Prometheus and /healthz there; only to this host if no HOST is given"
    flags.add_option("--http", type=http_endpoint, metavar="[HOST:]PORT", help=what)
    flags.add_kafka_options()
    return flags


def _time(text: str) -> str:
    parse_time(text, now_ms(), UTC)
    return text


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 0 < int(text) <= _MOST_CLIENTS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MOST_CLIENTS}")
    return int(text)


def _check(options: argparse.Namespace) -> None:
    """Exit as wrong usage if flags contradict each other; set what depends on others."""
    if options.since is not None and options.max_rate is not None:
        options.parser.error("not together: --since and --max-rate; history is sent at the pace of each client")
    if options.max_clients is None:
        options.max_clients = _MAX_CLIENTS if options.since is None else _MAX_CLIENTS_SINCE
