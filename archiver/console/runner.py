"""Runs an operator's command: errors become exit codes and messages; tables and lines are printed."""

import argparse
import signal
import sys
from collections.abc import Callable
from functools import wraps
from pkgutil import resolve_name
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from archiver.core.checkpoint import CheckpointError
from g3stream.host.environment import insufficient_resources
from g3stream.host.printable import printable, printable_lines
from g3stream.host.standard_streams import discard_unwritten
from g3stream.kafka.client_config import describe_kafka_error, reading_config
from g3stream.kafka.throttling import Throttling
from g3stream.log.setup import log_to_stderr

_THREADS = 16
"""The threads of two Kafka clients with up to three brokers."""


class CommandError(Exception):
    """A command can't do what it was asked to; the message says why."""


def run_command(options: argparse.Namespace) -> int:
    """Run the command with these options, of a parser by `command_parser`; return its exit code.

    If it fails, that is 1, with a line on stderr.
    """
    try:
        code: int = resolve_name(options.act)(options)
        _flush()  # here, where a closed pipe is handled
        return code
    except (CommandError, CheckpointError) as error:
        why = str(error)
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`): exit silently, as other programs do.
        discard_unwritten(sys.stdout)
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.filename is None:
            _flush_or_discard()
        where = f"{error.filename}: " if error.filename else ""
        why = f"{where}{error.strerror or error}"
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C mustn't end it with a traceback
        print(f"\n{options.stopped}", file=sys.stderr)
        return 128 + signal.SIGINT
    print_err(f"{options.parser.prog}: error: {why}")
    return 1


def with_kafka(act: Callable[[dict[str, Any], argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Decorator: calls a command's function with librdkafka's settings, too; Kafka's errors become CommandErrors."""

    @wraps(act)
    def act_on_kafka(options: argparse.Namespace) -> int:
        log_to_stderr(options.log_level, options.log_format)
        if sys.stdout is None:  # closed: `>&-`
            raise CommandError("stdout is closed: the result can't be printed")
        if refusal := insufficient_resources(_THREADS):
            raise CommandError(refusal)
        config, describe = reading_config(options)
        config["throttle_cb"] = Throttling("consumer_byte_rate", config).on_throttle
        try:
            return act(config, options)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._INVALID_ARG:
                raise CommandError(f"Kafka settings: {describe_kafka_error(error, options)}") from None
            raise CommandError(describe(error)) from None

    return act_on_kafka


def _flush() -> None:
    """Flush stdout, if it isn't closed."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _flush_or_discard() -> None:
    """Flush stdout, or discard what can't be written: else Python tries again at exit, and changes the exit code."""
    try:
        _flush()
    except OSError:
        discard_unwritten(sys.stdout)


def print_out(line: str) -> None:
    """Print a line to stdout."""
    print(printable(line))


def print_lines(text: str, *, flush: bool = False) -> None:
    """Print several lines, such as a table, to stdout. Foreign text in them must have no line ends."""
    print(printable_lines(text), flush=flush)


def print_err(text: str) -> None:
    """Print a line to stderr."""
    print(printable(text), file=sys.stderr, flush=True)
