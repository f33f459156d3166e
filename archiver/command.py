"""What the commands that look at an archive, or rebuild it, have in common: their flags, and how they end."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from archiver.checkpoint import CheckpointError
from archiver.history import History
from archiver.layout import GROUP
from archiver.times import parse_time
from ingest.log import log_to_stderr
from ingest.outage import Outage
from ingest.settings import Flags, kafka_client, stream_flag

EXIT_CODES = "exit codes: 0 {fine}; 1 {wrong}; 2 wrong usage; 130 after Ctrl-C."


def data_dir_option(flags: Flags) -> None:
    """Add --data-dir: an archive that is there."""
    flags.option(
        "--data-dir", env="ARCHIVER_DATA_DIR", type=Path, required=True, metavar="DIR", help="where the archive is"
    )


def group_option(flags: Flags) -> None:
    """Add --group."""
    flags.option(
        "--group",
        env="ARCHIVER_GROUP",
        type=group,
        default="archiver",
        metavar="NAME",
        help="the Kafka consumer group of the archive",
    )


def streams_option(flags: Flags) -> None:
    """Add --stream. (Not from the environment, where it says what an archiver records.)"""
    flags.add_argument(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="only this stream; may be repeated; every stream if never given",
    )


def time_option(flags: Flags, flag: str, what: str) -> None:
    """Add a flag that takes a time; gives ms."""
    help = f"{what}: 2026-11-22T21:30:00 or 2026-11-22 (UTC), Unix seconds, or -2h (s, m, h, d, w)"
    flags.add_argument(flag, type=_time, metavar="T", help=help)


def group(text: str) -> str:
    """Type of a flag: a Kafka consumer group."""
    if not GROUP.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to 200 of A-Z a-z 0-9 . _ - are allowed")
    return text


def run(options: argparse.Namespace, prog: str, act: Callable[[History], int]) -> int:
    """Do the command's work with what Kafka holds; gives its exit code, 1 with a line on stderr if it can't be done.

    options: with those of `kafka_options`, and `group`.
    """
    return run_client(options, prog, lambda config: act(History(config, options.group)))


def run_client(options: argparse.Namespace, prog: str, act: Callable[[dict[str, Any]], int]) -> int:
    """The same for what makes clients of its own: from librdkafka's settings, which it is given."""
    log_to_stderr(options.log_level, options.log_format)
    outage = Outage()
    config = kafka_client(options, {"error_cb": outage.heard})  # type: ignore[dict-item]  # librdkafka's one callback
    try:
        code = act(config)
        sys.stdout.flush()  # a pipe may be closed; here, where that is seen to
        return code
    except KafkaException as error:
        why = f"Kafka at {config['bootstrap.servers']}: {outage.why(error.args[0])}"
    except CheckpointError as error:
        why = str(error)
    except BrokenPipeError:
        # Whoever read our table has seen enough (`| head`): as other programs do, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        why = f"{where}{error.strerror or error}"
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 128 + signal.SIGINT
    print(f"{prog}: error: {why}", file=sys.stderr)
    return 1


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows in columns; those whose name begins with a blank are right-aligned."""
    lines = [[name.strip() for name in head], *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    right = [name.startswith(" ") for name in head]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def printable(text: str) -> str:
    """As it is, or escaped: names of files and what Kafka tells may be anything; the terminal is the operator's."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _time(text: str) -> int:
    try:
        return parse_time(text, round(time.time() * 1000))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
