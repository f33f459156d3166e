"""The agents' options: those of the existing SmurfRecorder agent, and those that Kafka adds.

They come from a site file as a list of strings, in which each option may appear only once. So an option with several
values takes them all at once (`--carry Observation Wiring`).
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from archiver.archive.location import Checksums
from archiver.console.arguments import MAX_CARRIED_TYPES, NOTHING, carried_types, group, suprsync_db
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings
from archiver.handover.on_file import on_file
from g3stream.frames.layout import FRAME_TYPES
from g3stream.service.arguments import (
    boolean,
    client_properties,
    key_value,
    listen_endpoint,
    port,
    replication_factor,
    seconds,
    size,
    stream_flag,
)

LOG_LEVELS = {"trace": "debug", "warn": "warning"}
"""OCS' names of log levels, as Python's logging calls them."""


def agent_options(parser: argparse.ArgumentParser, what: str) -> "argparse._ArgumentGroup":
    """Add --auto-start. Returns the group for the agent's own options. what: is started, for --help."""
    options = parser.add_argument_group("Agent Options")
    options.add_argument(
        "--auto-start",
        type=boolean,  # earlier agents took any text as true, even "False"
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help=f"Start {what} when the agent starts, whether or not crossbar can be reached.",
    )
    return options


def sender_options(options: "argparse._ArgumentGroup") -> None:
    """Add the options of the sender."""
    options.add_argument("--address", default="localhost", help="Host of the G3NetworkSender.")
    options.add_argument("--port", type=port, default=50000, help="Its TCP port.")
    options.add_argument(
        "--stream-id",
        type=stream_flag,
        help="Name of the stream: of its Kafka topic, and of its files' directory if its frames have no sostream_id. "
        "It must be unique. By default the instance id.",
    )


def ingest_options(parser: argparse.ArgumentParser, spool: str) -> None:
    """Add the other options of ingest. spool: the default directory, for --help."""
    options = parser.add_argument_group("Ingest Options")
    options.add_argument(
        "--listen",
        type=listen_endpoint,
        metavar="[HOST:]PORT",
        help="Wait for the sender to connect to us, instead of connecting to --address and --port.",
    )
    options.add_argument(
        "--timeout",
        type=seconds,
        default=5.0,
        help="Close a connection on which nothing is received for so many seconds, and reconnect.",
    )
    options.add_argument(
        "--max-frame-size", type=size, default=256 << 20, help="Close a connection that announces a larger frame."
    )
    options.add_argument(
        "--spool-dir",
        type=Path,
        help="Where frames are kept on disk until Kafka has them, in a directory of the stream's name. "
        f"By default {spool}.",
    )
    options.add_argument(
        "--spool-size", type=size, default=16 << 30, help="The most that the spool may take on disk, such as 16GiB."
    )
    options.add_argument(
        "--replication-factor",
        type=replication_factor,
        help="Of the topic, if it is created; by default the broker's.",
    )
    options.add_argument(
        "--topic-config",
        type=key_value,
        nargs="+",
        default=[],
        metavar="K=V",
        help="Settings for the stream's topic, if it is created.",
    )


def file_options(options: "argparse._ArgumentGroup") -> None:
    """Add the options of the files: their directory and their length."""
    options.add_argument("--data-dir", type=Path, default=Path("/data/"), help="Where the files go.")
    options.add_argument("--time-per-file", type=seconds, default=600.0, help="The most that a file may span, s.")


def archiver_options(parser: argparse.ArgumentParser) -> None:
    """Add the other options of the archiver."""
    options = parser.add_argument_group("Archiver Options")
    options.add_argument(
        "--gap", type=seconds, default=10.0, help="So many seconds without frames end an acquisition."
    )
    options.add_argument(
        "--name-format",
        type=NameFormat,
        choices=list(NameFormat),
        default=NameFormat.DATE,
        metavar="date|ctime|session",
        help="2019-01-01-12-00-00_000.g3, or 1546344000_000.g3, or that by session_id, as sotodlib finds files.",
    )
    options.add_argument(
        "--carry",
        nargs="*",
        default=["Observation"],
        choices=[*sorted(FRAME_TYPES), NOTHING],
        action=_Carry,
        metavar="TYPE",
        help=f"Frame types (up to {MAX_CARRIED_TYPES}) whose last frame is repeated at the head of each following "
        "file; may be empty.",
    )
    options.add_argument(
        "--private-dir",
        type=Path,
        default=_from_environment("ARCHIVER_PRIVATE_DIR"),
        metavar="DIR",
        help="Directory of all that isn't a finished file, on the data dir's file system, but not below it. "
        "By default the environment's ARCHIVER_PRIVATE_DIR, else .archiver in the data dir.",
    )
    options.add_argument(
        "--checksums",
        type=Checksums,
        choices=list(Checksums),
        metavar="beside|private|off",
        help="Where a new archive keeps its files' SHA-256: beside them in SHA256SUMS (as if not given), in the "
        "private dir, or nowhere.",
    )
    options.add_argument(
        "--group", type=group, default="archiver", help="The Kafka consumer group of the archive in the data dir."
    )
    options.add_argument(
        "--on-file",
        type=on_file,
        metavar="COMMAND|URL",
        help="Run this, or post to it, for each event of the archive, until it succeeds (docs/on-file.md).",
    )
    options.add_argument(
        "--suprsync-db",
        type=suprsync_db,
        metavar="FILE",
        help="Register each finished file in this database of socs' SupRsync agent, which copies it; publish up to "
        "when the archive is final in the feed archive_stats, and write the files of complete timecodes "
        "(docs/suprsync.md). Takes the MD5 of files while they are written.",
    )
    options.add_argument(
        "--suprsync-archive-name",
        type=group,
        default="timestreams",
        metavar="NAME",
        help="The --archive-name of that agent.",
    )


def kafka_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of Kafka's clients."""
    options = parser.add_argument_group("Kafka Options")
    options.add_argument(
        "--bootstrap-servers",
        default=os.environ.get("KAFKA_BOOTSTRAP_SERVERS"),
        metavar="HOST:PORT,…",
        help="The brokers to connect to first. By default the environment's KAFKA_BOOTSTRAP_SERVERS, else "
        "localhost:9092.",
    )
    options.add_argument(
        "--kafka-config",
        type=client_properties,
        default={},
        metavar="FILE",
        help="A client.properties file for TLS, SASL and other settings of librdkafka.",
    )


def settings(options: argparse.Namespace) -> Settings:
    """Return the settings of segmentation, from the options."""
    time_per_file, gap = round(options.time_per_file * 1000), round(options.gap * 1000)
    return Settings(time_per_file, gap, options.name_format, carried_types(options.carry))


def _from_environment(name: str) -> Path | None:
    return Path(given) if (given := os.environ.get(name)) else None


class _Carry(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - the signature is argparse's
        namespace: argparse.Namespace,
        values: str | Sequence[str] | None,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        try:
            carried_types(values or ())
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None
        setattr(namespace, self.dest, values)
