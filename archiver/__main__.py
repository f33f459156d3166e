"""The command `archiver`: flags, signals, and the archive that they start."""

import argparse
import hashlib
import importlib
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from confluent_kafka import KafkaException

from archiver.checkpoint import MOST_CARRIED_TYPES
from archiver.command import group
from archiver.commits import FencedError
from archiver.finishing import ArchiveRoot
from archiver.layout import NameFormat
from archiver.member import ClaimedError, Member
from archiver.segmentation import Settings
from archiver.told import Told
from ingest.connection import ListenError
from ingest.log import log_to_stderr
from ingest.settings import Flags, kafka_client, seconds, stream_flag
from ingest.wire import FRAME_TYPES

log = logging.getLogger("archiver")

COMMANDS = {
    "replay": "rebuild files from the topics",
    "verify": "prove that an archive is whole and right",
    "repair": "rebuild what verify finds broken",
    "files": "list what was recorded",
    "status": "show how the streams are now",
    "close": "end an acquisition whose ingest died",
}
"""Besides recording, which is what `archiver` without a command does; each is a module of that name."""

_DESCRIPTION = """\
Record the streams that ingest publishes to Kafka as .g3 files:
  DATA_DIR/<5 digits>/<stream id>/2019-01-01-12-00-00_000.g3

A file begins with an acquisition (START, or a first frame) and ends with it (END, a gap, a lost connection), or
after --time-per-file. It appears under its name when it is complete, and never changes. May be started before Kafka;
may be killed at any time: it goes on with the same file. Stop it with SIGTERM or Ctrl-C; it exits 0."""

_EXAMPLES = """\
examples:
  archiver --data-dir /data                                    every stream, from Kafka at localhost:9092
  archiver --data-dir /data --stream crate1slot2 --stream crate1slot3 --bootstrap-servers kafka1:9092
  archiver --data-dir /data --time-per-file 60 --name-format ctime --carry Observation --carry Wiring

Run more of them with the same --group and --data-dir to share the streams; a second archive of the same streams is
another --group with another --data-dir. Changed settings take effect with the next acquisition.

commands, each with a --help of its own:
{commands}

exit codes: 0 stopped as asked; 1 can't go on, and says why; 2 wrong usage."""


def make_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    commands = "\n".join(f"  archiver {name:8} {what}" for name, what in COMMANDS.items())
    flags = Flags("archiver", _DESCRIPTION, _EXAMPLES.format(commands=commands))
    flags.option("--data-dir", type=Path, required=True, metavar="DIR", help="where the files go; made if missing")
    flags.option(
        "--time-per-file",
        type=seconds,
        default="600",
        metavar="SECONDS",
        help="the most that one file may span",
    )
    flags.option(
        "--gap",
        type=seconds,
        default="10",
        metavar="SECONDS",
        help="so long without frames ends an acquisition",
    )
    flags.option(
        "--name-format",
        type=NameFormat,
        choices=list(NameFormat),
        default="date",
        metavar="date|ctime",
        help="2019-01-01-12-00-00_000.g3 or 1546344000_000.g3",
    )
    flags.option(
        "--carry",
        action="append",
        default=[],
        choices=sorted(FRAME_TYPES),
        metavar="TYPE",
        help="the last frame of this type heads every following file; up to 3 times; Observation if never given",
    )
    flags.option(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="record this stream; may be repeated; every stream, new ones as they appear, if never given",
    )
    flags.option(
        "--group", type=group, default="archiver", metavar="NAME", help="the Kafka consumer group of this archive"
    )
    flags.option(
        "--instance-id",
        type=group,
        metavar="NAME",
        help="who this is in the group; by default the host's name and a digest of the data dir",
    )
    flags.kafka_options()
    flags.http_option()
    return flags


def main(args: list[str] | None = None) -> int:
    """Run the command; args: the command line without the program's name. Gives the exit code."""
    args = sys.argv[1:] if args is None else args
    if args and args[0] in COMMANDS:
        command = importlib.import_module(f"archiver.{args[0]}")  # only that one: each has much to import
        code: int = command.main(args[1:])
        return code
    parser = make_parser()
    if args and not args[0].startswith("-"):
        parser.error(f"there is no command {args[0]!r}; there are {', '.join(COMMANDS)}")
    options = parser.parse_args(args)
    carry = tuple(dict.fromkeys(FRAME_TYPES[name] for name in options.carry or ["Observation"]))
    if len(carry) > MOST_CARRIED_TYPES:
        parser.error(f"--carry: at most {MOST_CARRIED_TYPES} types")
    settings = Settings(round(options.time_per_file * 1000), round(options.gap * 1000), options.name_format, carry)
    log_to_stderr(options.log_level, options.log_format)
    root: Path = options.data_dir.absolute()
    told = Told()
    instance_id = options.instance_id or _instance_id(root)
    archive = ArchiveRoot(root, options.group, socket.gethostname())
    streams = options.stream or None
    member = Member(archive, settings, kafka_client(options, {}), instance_id, streams, told.told)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: member.stopping.set())
    try:
        with _http(options, member, told):
            member.run()
    except OSError as error:
        log.error("the data directory %s can't be used: %s", root, error.strerror or error)
        return 1
    except ClaimedError as error:
        log.error("%s", error)
        return 1
    except KafkaException as error:
        log.error("Kafka: %s", error.args[0].str())
        return 1
    except FencedError as error:
        log.error("another archiver with the instance id %s has taken over: %s", instance_id, error)
        return 1
    return 0


def _http(options: argparse.Namespace, member: Member, told: Told) -> AbstractContextManager[object]:
    """What is served of it, if anything: recording goes on without."""
    if not options.http:
        return nullcontext()
    # Here, so that without it nothing is imported for it.
    from archiver.metrics import metrics
    from ingest.http import HttpServer

    def problems() -> Iterable[str]:
        status = member.status()
        return status.problems(time.time()) if status else ["it hasn't begun yet"]

    try:
        return HttpServer(
            options.http, lambda: metrics(member.status(), told, options.data_dir, time.time()), problems
        )
    except ListenError as error:
        log.error("%s; recording goes on without --http", error)
        return nullcontext()


def _instance_id(root: Path) -> str:
    """The same at every start on this host for this data directory."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:150]
    return f"{host}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


if __name__ == "__main__":
    sys.exit(main())
