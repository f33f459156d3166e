"""Command line arguments: flags, an environment variable for each, Kafka client properties."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from g3stream.contract.errors import ContractError
from g3stream.contract.topics import stream_name
from g3stream.host.standard_streams import discard_unwritten
from g3stream.kafka.client_properties import ClientPropertiesError, read_client_properties
from g3stream.service.endpoint import ListenEndpoint

_SIZE = re.compile(r"(\d+)\s*(B|KB|KIB|MB|MIB|GB|GIB|TB|TIB)?", re.IGNORECASE)
_NEGATIVE = re.compile(r"-[0-9]")
_UNITS = {"": 1, "B": 1, **{f"{p}B": 1000**n for n, p in enumerate("KMGT", 1)}}
_UNITS |= {f"{p}IB": 1024**n for n, p in enumerate("KMGT", 1)}


class EnvArgumentParser(argparse.ArgumentParser):
    """An ArgumentParser with an environment variable for each option.

    The variable of `archiver --time-per-file` is ARCHIVER_TIME_PER_FILE; a few have other names. The flag overrides
    the variable, and the variable the default. A list's variable holds its items, separated by spaces.
    """

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # a prefix that works today may be ambiguous, and fail, after an upgrade
        )
        self._variables: dict[str, tuple[str, bool]] = {}
        """The name of each option's variable, and whether it holds several values."""
        self._required_one_of: tuple[str, ...] = ()
        self._from_environment: set[str] = set()
        """The options that have the values of their variables now."""
        self.add_argument(
            "--version",
            action=_Version,
            nargs=0,
            dest=argparse.SUPPRESS,
            default=argparse.SUPPRESS,
            help="show program's version number and exit",
        )

    def add_option(self, flag: str, *, env: str | None = None, **how: Any) -> None:
        """Add an option. env: its variable, if not PROG_FLAG. how: keyword arguments of add_argument."""
        name = env or f"{self.prog}_{flag.lstrip('-')}".upper().replace("-", "_").replace(" ", "_")
        default = f", default {how['default']}" if how.get("default") else ""
        how["help"] = f"{how['help']} [{name}{default}]"
        self._variables[flag] = name, how.get("action") == "append"
        if os.environ.get(name):
            how["required"] = False
        self.add_argument(flag, **how)

    def require_one_of(self, *flags: str) -> None:
        """Require exactly one of these options; a flag overrides the variables of all of them."""
        self._required_one_of = flags

    def parse_known_args(  # type: ignore[override]  # its overloads are for custom namespaces, which aren't used here
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, with the variables that no flag overrides as further flags.

        An argument such as the `-2h` of `--since -2h` is the flag's value, because no flag here begins with a digit.
        """
        given = _join_negative_values(sys.argv[1:] if args is None else args)
        flags = {arg.partition("=")[0] for arg in given}
        if not flags.isdisjoint(self._required_one_of):
            flags.update(self._required_one_of)
        from_environment = {
            flag: text.split() if several else [text]
            for flag, (name, several) in self._variables.items()
            if flag not in flags and (text := os.environ.get(name))
        }
        self._from_environment = set(from_environment)
        variables = [f"{flag}={item}" for flag, items in from_environment.items() for item in items]
        found, rest = super().parse_known_args([*variables, *given], namespace)
        self._check_one_of(found)
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Exit as argparse does; an error of a variable's value names the variable."""
        flag, _, why = message.removeprefix("argument ").partition(": ")
        if message.startswith("argument ") and flag in self._from_environment:
            message = f"the environment variable {self._variables[flag][0]}: {why}"
        super().error(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a message or help as argparse does, but exit with an error if it can't be written (a full disk)."""
        file = sys.stderr if file is None else file
        if file is None or not message:
            return
        try:
            file.write(message)
            file.flush()
        except OSError as error:
            discard_unwritten(file)
            if isinstance(error, BrokenPipeError):
                return  # the reader has closed the pipe, as `head` does
            print(f"{self.prog}: error: can't print: {error.strerror}", file=sys.stderr)
            sys.exit(1)

    def _check_one_of(self, found: argparse.Namespace) -> None:
        """Check that exactly one of the `require_one_of` options is given."""
        one_of = self._required_one_of
        given = [flag for flag in one_of if getattr(found, flag.lstrip("-").replace("-", "_")) is not None]
        if one_of and not given:
            self.error(f"one of these is required: {' or '.join(one_of)}")
        if len(given) > 1:
            self.error(f"not together: {' and '.join(given)}")

    def add_kafka_options(self) -> None:
        """Add the options of every command that connects to Kafka."""
        self.add_option(
            "--bootstrap-servers",
            env="KAFKA_BOOTSTRAP_SERVERS",
            **BOOTSTRAP_SERVERS,
        )
        self.add_option(
            "--kafka-config",
            env=f"{self.prog.split()[0]}_kafka_config".upper(),  # one variable for all subcommands of a program
            **KAFKA_CONFIG,
        )
        self.add_option(
            "--log-level",
            env="LOGLEVEL",
            default="info",
            type=str.lower,
            choices=["debug", "info", "warning", "error"],
            help="the lowest level of log lines",
        )
        self.add_option(
            "--log-format",
            env=f"{self.prog.split()[0]}_log_format".upper(),
            default="text",
            choices=["text", "json"],
            help="log lines as text, or as a JSON object each",
        )

    def add_http_option(self) -> None:
        """Add the option of long-running commands."""
        self.add_option(
            "--http",
            type=http_endpoint,
            metavar="[HOST:]PORT",
            help="serve /metrics for Prometheus and /healthz there; only to this host if no HOST is given",
        )


class _Version(argparse.Action):
    """argparse's action `version`, with the version looked up only when needed, as that takes a while."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - the signature is argparse's
        values: Any,  # noqa: ARG002
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Print the version and exit, as argparse does."""
        from importlib.metadata import version

        parser._print_message(f"{parser.prog} {version('g3-recorder')}\n", sys.stdout)
        parser.exit()


def _join_negative_values(args: Sequence[str]) -> list[str]:
    joined: list[str] = []
    for arg in args:
        if joined and _NEGATIVE.match(arg) and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={arg}"
        else:
            joined.append(arg)
    return joined


def client_properties(path: str) -> dict[str, str]:
    """Type of a flag: a file of Kafka client properties, as librdkafka's settings."""
    try:
        return read_client_properties(Path(path))
    except ClientPropertiesError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


BOOTSTRAP_SERVERS: Final[Mapping[str, Any]] = {
    "metavar": "HOST:PORT,…",
    "help": "the Kafka brokers to connect to first; localhost:9092 if --kafka-config names none either",
}
"""Arguments of add_argument for --bootstrap-servers."""

KAFKA_CONFIG: Final[Mapping[str, Any]] = {
    "type": client_properties,
    "default": {},
    "metavar": "FILE",
    "help": "client.properties as for Kafka's own tools: TLS, SASL, and librdkafka's settings",
}
"""Arguments of add_argument for --kafka-config."""


def stream_flag(text: str) -> str:
    """Type of a flag: a stream name."""
    try:
        return stream_name(text)
    except ContractError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def size(text: str) -> int:
    """Type of a flag: a size such as 256MiB, 16GiB, 500MB or 4096, in bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 256MiB or 16GiB")
    unit: int = _UNITS[(match[2] or "").upper()]
    return int(match[1]) * unit


def directory(text: str) -> Path:
    """Type of a flag: a directory, as an absolute path."""
    try:
        return Path(text).absolute()
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(f"{text}: the current directory has been deleted") from None


def seconds(text: str) -> float:
    """Type of a flag: a positive time in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.001 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write a positive number of seconds")
    return value


def boolean(text: str) -> bool:
    """Type of a flag: true or false, also as yes/no, on/off, 1/0."""
    if text.lower() in ("true", "yes", "on", "1"):
        return True
    if text.lower() in ("false", "no", "off", "0", "none"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")


def host(text: str) -> str:
    """Type of a flag: a host's name or address."""
    try:
        text.encode("idna")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name") from None
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a host name is needed")
    return text.removeprefix("[").removesuffix("]")


def listen_endpoint(text: str) -> ListenEndpoint:
    """Type of a flag: [HOST:]PORT; every interface if no host is given."""
    where, _, number = text.rpartition(":")
    return ListenEndpoint(host(where) if where else "", port(number))


def http_endpoint(text: str) -> ListenEndpoint:
    """Type of a flag: [HOST:]PORT; this host only if no host is given."""
    where = listen_endpoint(text)
    return ListenEndpoint(where.host or "127.0.0.1", where.port)


def port(text: str) -> int:
    """Type of a flag: a TCP port."""
    if not (text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; write a number from 1 to 65535")
    return int(text)


def key_value(text: str) -> tuple[str, str]:
    """Type of a flag: KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not key=value")
    return key, value


def replication_factor(text: str) -> int:
    """Type of a flag: a topic's number of copies."""
    if not (text.isdecimal() and 0 < int(text) < 32768):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 32767")
    return int(text)
