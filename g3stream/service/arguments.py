"""Command line arguments: flags, an environment variable for each, Kafka client properties."""

import argparse
import os
import re
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from g3stream.contract.topics import stream_name
from g3stream.host.durations import parse_duration_s
from g3stream.host.printable import printable, printable_lines
from g3stream.host.standard_streams import discard_unwritten
from g3stream.kafka.client_properties import read_client_properties
from g3stream.service.endpoint import ListenEndpoint

T = TypeVar("T")

_SIZE = re.compile(r"(\d+)\s*(?:B|([KMGT])(I?)B)?", re.IGNORECASE | re.ASCII)
_MAX_MESSAGE = 1000
_MAX_BYTES = 1 << 60
_HOST = re.compile(r"[^\s/:?#@]+")
_NEGATIVE = re.compile(r"-[0-9]")


class EnvArgumentParser(argparse.ArgumentParser):
    """An ArgumentParser with an environment variable for each option.

    The variable of `archiver --time-per-file` is ARCHIVER_TIME_PER_FILE; a few have other names. The flag overrides
    the variable, and the variable the default. A list's variable holds its items, separated by spaces.
    """

    def __init__(self, prog: str, text: str | None) -> None:
        """text: a module's docstring (None with `python -OO`), for --help: from `examples:` on below the options."""
        self.arguments: list[argparse.Action] = []
        """All arguments, in the order of --help."""
        description, heading, examples = (text or "").partition("\n\nexamples:\n")
        super().__init__(
            prog=prog,
            description=description,
            epilog=heading.lstrip() + examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,  # a prefix that works today may be ambiguous, and fail, after an upgrade
        )
        self._variables: dict[str, tuple[str, bool]] = {}
        """The name of each option's variable, and whether it holds several values."""
        self._required_one_of: tuple[str, ...] = ()
        self._from_environment: set[str] = set()
        """The options that have the values of their variables now."""
        self._given: frozenset[str] = frozenset()
        """The flags of the command line."""
        text = "show program's version number and exit"
        self.add_argument("--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help=text)

    def add_argument(self, *flags: str, **how: Any) -> argparse.Action:
        """Add an argument, as argparse does, and remember it. A typo of one of its choices gets "did you mean"."""
        if "choices" in how:
            how["type"] = _choice(list(how["choices"]), how.get("type", str))
        self.arguments.append(super().add_argument(*flags, **how))
        return self.arguments[-1]

    def add_option(self, flag: str, *, env: str | None = None, **how: Any) -> None:
        """Add an option. env: its variable, if not PROG_FLAG. how: keyword arguments of add_argument."""
        name = env or f"{self.prog}_{flag.lstrip('-')}".upper().replace("-", "_").replace(" ", "_")
        default = f", default {how['default']}" if how.get("default") else ""
        how["help"] = f"{how['help']} [{name}{default}]"
        self._variables[flag] = name, how.get("action") in ("append", "extend")
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
        self._given = frozenset(arg.partition("=")[0] for arg in given)
        flags = set(self._given)
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

    def settings(self, options: argparse.Namespace) -> list[tuple[str, Any, str]]:
        """Return each option with its value, and where that comes from: a flag, a variable, or the default."""
        found = []
        for flag, (variable, _) in self._variables.items():
            value = getattr(options, flag.lstrip("-").replace("-", "_"), None)
            origin = "given" if flag in self._given else variable if flag in self._from_environment else "default"
            found.append((flag, value, origin))
        return found

    def error(self, message: str) -> NoReturn:
        """Exit as argparse does; an error of a variable's value names the variable."""
        flag, _, why = message.removeprefix("argument ").partition(": ")
        if message.startswith("argument ") and flag in self._from_environment:
            message = f"the environment variable {self._variables[flag][0]}: {why}"
        known = [flag for argument in self.arguments for flag in argument.option_strings]
        unknown = [flag for flag in self._given if flag.startswith("--") and flag not in (*known, "--")]
        if message.startswith("unrecognized arguments: "):
            words = message.removeprefix("unrecognized arguments: ").split()
            message += did_you_mean(words[0].partition("=")[0], known)
        elif " required: " in message and unknown:  # a typo is why it is missing
            message = f"unrecognized arguments: {unknown[0]}{did_you_mean(unknown[0], known)}"
        super().error(_shortened(printable(message)))

    def print_and_exit(self, text: str) -> NoReturn:
        """Print text to stdout, as --help is, and exit with code 0."""
        self._print_message(text, sys.stdout)
        self.exit()

    def print_lines(self, *lines: str) -> None:
        """Print lines to stdout, as --help is printed."""
        for line in lines:
            self._print_message(f"{printable_lines(line)}\n", sys.stdout)

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
        program = self.prog.split()[0].upper()  # one variable for all subcommands of a program
        self.add_option("--bootstrap-servers", env="KAFKA_BOOTSTRAP_SERVERS", **BOOTSTRAP_SERVERS)
        self.add_option("--kafka-config", env=f"{program}_KAFKA_CONFIG", **KAFKA_CONFIG)
        levels, text = ["debug", "info", "warning", "error"], "the lowest level of log lines"
        self.add_option("--log-level", env="LOGLEVEL", default="info", type=str.lower, choices=levels, help=text)
        forms, text = ["text", "json"], "log lines as text, or as a JSON object each"
        self.add_option("--log-format", env=f"{program}_LOG_FORMAT", default="text", choices=forms, help=text)

    def add_service_options(self) -> None:
        """Add the options of long-running commands."""
        text = "serve /metrics for Prometheus and /healthz there; only to this host if no HOST is given"
        self.add_option("--http", type=http_endpoint, metavar="[HOST:]PORT", help=text)
        text = (
            "show the settings in effect, try what they name (Kafka, disk, sender), and exit: 0 if all works, else 1"
        )
        self.add_argument("--check-config", action="store_true", help=text)


class _Version(argparse.Action):
    """argparse's action `version`, with the version looked up only when needed, as that takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        """Print the version and exit, as argparse does."""
        assert isinstance(parser, EnvArgumentParser)
        from importlib.metadata import version
        from platform import python_version

        from confluent_kafka import libversion

        clients = f"confluent-kafka {version('confluent-kafka')}, librdkafka {libversion()[0]}"
        parser.print_and_exit(f"{parser.prog} {version('g3-recorder')} ({clients}, Python {python_version()})\n")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question about the known word that is most like this one; empty if none is."""
    found = get_close_matches(word, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _choice(choices: Sequence[T], convert: Callable[[str], T]) -> Callable[[str], T]:
    """Return the type of a flag with these choices. convert: what `type` would be without them."""

    def parsed(text: str) -> T:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or value not in choices:
            names = [str(choice) for choice in choices]
            meant = did_you_mean(text, names) or f"; choose from {', '.join(names)}"
            raise argparse.ArgumentTypeError(f"{text!r} is no choice{meant}")
        return value

    return parsed


def _shortened(message: str) -> str:
    """Return a message without the middle of a value that fills the screen."""
    return (
        message
        if len(message) <= _MAX_MESSAGE
        else f"{message[: _MAX_MESSAGE // 2]} … {message[-_MAX_MESSAGE // 2 :]}"
    )


def _join_negative_values(args: Sequence[str]) -> list[str]:
    joined: list[str] = []
    for arg in args:
        if joined and _NEGATIVE.match(arg) and joined[-1].startswith("--") and "=" not in joined[-1]:
            joined[-1] += f"={arg}"
        else:
            joined.append(arg)
    return joined


def flag_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return the type of a flag whose text is read by `parse`, which raises a ValueError that says what is wrong."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


stream_flag = flag_type(stream_name)
"""Type of a flag: a stream name."""

client_properties = flag_type(lambda path: read_client_properties(Path(path)))
"""Type of a flag: a file of Kafka client properties, as librdkafka's settings."""


def size(text: str) -> int:
    """Type of a flag: a size such as 256MiB, 16GiB, 500MB or 4096, in bytes."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match[1]) > 19 or int(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write for example 256MiB or 16GiB")
    unit: int = (1024 if match[3] else 1000) ** " KMGT".index((match[2] or " ").upper())
    if int(match[1]) * unit > _MAX_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is more than any disk has")
    return int(match[1]) * unit


def directory(text: str) -> Path:
    """Type of a flag: a directory, as an absolute path."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} is no directory")
    try:
        return Path(text).absolute()
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(f"{text}: the current directory has been deleted") from None


def seconds(text: str) -> float:
    """Type of a flag: a positive duration, as a number of seconds or such as 90s, 10m, 1h30m; in seconds."""
    value = parse_duration_s(text, "smhd")
    if value is None and text.isascii() and "_" not in text:
        with suppress(ValueError):
            value = float(text)
    if value is None or not 0.001 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration; write a number of seconds, or 10m, 1h30m")
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
    plain = text.removeprefix("[").removesuffix("]")
    if not ((_HOST.fullmatch(plain) and plain.isprintable()) or _is_ipv6(plain)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a host name" if text else "a host name is needed")
    return plain


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def bootstrap_servers(text: str) -> str:
    """Type of a flag: Kafka brokers, HOST[:PORT] separated by commas; as librdkafka takes them."""
    for broker in text.split(","):
        where, _, number = broker.strip().rpartition("://")[2].rpartition(":")
        try:
            if not where or _is_ipv6(f"{where}:{number}"):
                host(broker.strip().rpartition("://")[2])
            else:
                host(where)
                port(number)
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentTypeError(f"{error}; write HOST:PORT, several with commas between them") from None
    return text


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
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 65536):
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
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 32768):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 32767")
    return int(text)


BOOTSTRAP_SERVERS: Final[Mapping[str, Any]] = {
    "type": bootstrap_servers,
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
