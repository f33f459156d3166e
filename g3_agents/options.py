"""The agents' options: those of the existing SmurfRecorder agent, and those that Kafka adds.

They come from a site file as a list of strings, in which each option may appear only once. So an option with several
values takes them all at once (`--carry Observation Wiring`).
"""

import argparse
import os
from pathlib import Path

from archiver.console.arguments import MAX_CARRIED_TYPES, NOTHING
from archiver.console.recording_options import recording_options
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.service.arguments import BOOTSTRAP_SERVERS, KAFKA_CONFIG, boolean, stream_flag
from ingest.config import stream_options


def agent_options(parser: argparse.ArgumentParser, what: str) -> "argparse._ArgumentGroup":
    """Add --auto-start. Returns the group for the agent's own options. what: is started, for --help."""
    group = parser.add_argument_group("Agent Options")
    text = f"Start {what} when the agent starts, whether or not crossbar can be reached."
    # Its type is a boolean, as earlier agents took any text as true, even "False".
    group.add_argument("--auto-start", type=boolean, nargs="?", const=True, default=False, metavar="BOOL", help=text)
    return group


def ingest_options(parser: argparse.ArgumentParser, spool: str) -> None:
    """Add the options of ingest. spool: the default directory, for --help."""
    options = parser.add_argument_group("Ingest Options")
    text = "name of the stream: of its Kafka topic, and of its files' directory if its frames have no sostream_id; "
    text += "it must be unique; the instance id if not given"
    options.add_argument("--stream-id", type=stream_flag, help=text)
    stream_options(options.add_argument, nargs="+")
    text = "where frames are kept on disk until Kafka has them, in a directory of the stream's name; "
    text += f"by default {spool}"
    options.add_argument("--spool-dir", type=Path, help=text)


def archiver_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the archiver."""
    options = parser.add_argument_group("Archiver Options")
    options.add_argument("--data-dir", type=Path, default=Path("/data/"), help="directory of the files")
    text = "directory of all that isn't a finished file, on the data dir's file system, but not below it; if not "
    text += "given, the environment's ARCHIVER_PRIVATE_DIR, else .archiver in the data dir"
    private_dir = os.environ.get("ARCHIVER_PRIVATE_DIR") or None
    options.add_argument("--private-dir", type=Path, default=private_dir, metavar="DIR", help=text)
    recording_options(options.add_argument)
    types = [*sorted(FRAME_TYPES), NOTHING]
    text = f"frame types (up to {MAX_CARRIED_TYPES}) whose last frame is repeated at the head of each following "
    text += "file; may be empty"
    options.add_argument("--carry", nargs="*", default=["Observation"], choices=types, metavar="TYPE", help=text)


def kafka_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of Kafka's clients."""
    options = parser.add_argument_group("Kafka Options")
    servers = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    options.add_argument("--bootstrap-servers", default=servers, **BOOTSTRAP_SERVERS)
    options.add_argument("--kafka-config", **KAFKA_CONFIG)
