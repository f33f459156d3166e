"""Read G3 frames from TCP and publish them to Kafka, for one stream (--stream) or
for several independent ones (--streams). The topic is g3.frames.STREAM.

It may be started before the sender and before Kafka: it waits for both, and
reconnects whenever one of them is away. Every frame read is kept in a spool on
disk until Kafka has acknowledged it, so neither an unavailable broker nor a
kill of this process loses a frame. Stop it with SIGTERM or Ctrl-C: it exits
with code 0 within seconds.

examples:
  from localhost:50000, to Kafka at localhost:9092
    ingest --stream crate1slot2
  from another host, to a cluster
    ingest --stream crate1slot2 --address smurf-srv01 --port 4532 \\
           --bootstrap-servers kafka1:9092,kafka2:9092
  from a sender that connects to us
    ingest --stream crate1slot2 --listen 50000
  with the settings of a topic that is created
    ingest --stream crate1slot2 --replication-factor 3 \\
           --topic-config min.insync.replicas=2 \\
           --topic-config retention.bytes=500000000000
  several streams; the flags are the defaults of the file's tables
    ingest --streams streams.toml --spool-size 8GiB

streams.toml has a table for each stream. Its keys are these flags, without the
leading dashes:
  [[stream]]
  name = "crate1slot2"
  address = "smurf-srv01"
  port = 4532

  [[stream]]
  name = "crate1slot3"
  listen = 50003                # instead of address and port
  timeout = 30
  max-frame-size = "64MiB"
  spool-size = "32GiB"
  replication-factor = 3
  topic-config = {"retention.bytes" = 500000000000}  # in addition to the flags'
A stream that fails, for example as its port is in use, is reported and
restarted within a minute; the others are not affected.

Man pages, and completion of flags with Tab: docs/operate/systemd.md

exit codes: 0 stopped on request; 1 failed, the log says why, or with --streams
one of the streams had failed when it was stopped; 2 wrong usage."""

import argparse
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from g3stream.contract.topics import frames_topic
from g3stream.host.environment import insufficient_resources
from g3stream.host.standard_streams import prepare_standard_streams
from g3stream.service.arguments import EnvArgumentParser, directory, stream_flag
from g3stream.service.completion import completion_option
from g3stream.service.stop_signals import StopSignals
from ingest.config import StreamSettings, StreamsFileError, stream_from_flags, stream_options, streams_from_file

_THREADS = 12
"""Threads of one stream: its own and those of its producer, with three brokers."""
_PROCESS_THREADS = 18
"""Threads of the process: of the log, signals and HTTP, of the watch of the topics with its Kafka client, and those
that live only at the start. Measured, with one stream and no broker: 16 in all, without those of the reports."""


def make_parser() -> EnvArgumentParser:
    """Make the parser of the command's flags."""
    flags = EnvArgumentParser("ingest", __doc__)
    flags.add_option("--stream", type=stream_flag, metavar="NAME", help="the stream's name")
    text = "a file of several streams, instead of one; see below"
    flags.add_option("--streams", type=Path, metavar="FILE", help=text)
    flags.require_one_of("--stream", "--streams")
    stream_options(flags.add_option, action="append")
    flags.add_kafka_options()
    text = "directory of the spools, one subdirectory for each stream; on a local disk"
    flags.add_option("--spool-dir", type=directory, **_default_of_spool_dir(), metavar="DIR", help=text)
    flags.add_service_options()
    completion_option(flags, make_parser)
    return flags


def main(args: list[str] | None = None) -> int:
    """Run the command. Returns the exit code. args: the command line without the program's name."""
    prepare_standard_streams()
    parser = make_parser()
    options = parser.parse_args(args)
    if options.streams and options.listen:
        parser.error("--listen: not with --streams, as each stream needs its own port: set it in the file")
    try:
        several = streams_from_file(options.streams, options) if options.streams else None
    except StreamsFileError as error:
        parser.error(str(error))
    if options.check_config:
        return _check_config(parser, options, several or [stream_from_flags(options, options.stream)])
    threads = _PROCESS_THREADS + _THREADS * (len(several) if several else 1)
    if refusal := insufficient_resources(threads):
        print(f"ingest: error: {refusal}", file=sys.stderr)
        return 1
    with StopSignals() as signals:
        # Imported here, so that --help and wrong usage don't wait for what only recording needs.
        from ingest.service import run

        code = run(options, several, signals)
    from g3stream.service.process_exit import end_process

    return end_process(code)


def _check_config(parser: EnvArgumentParser, options: argparse.Namespace, streams: Sequence[StreamSettings]) -> int:
    """Show the settings, try Kafka, the spool's disk and the senders; return the exit code."""
    from g3stream.service.config_check import check_config, directory_trial, http_trials, kafka_trials, sender_trial

    topics = [frames_topic(stream.name) for stream in streams]
    trials = [
        *kafka_trials(options, topics),
        directory_trial("the spool's directory", options.spool_dir),
        *(sender_trial(stream.name, stream.source) for stream in streams),
        *http_trials(options.http),
    ]
    notes = [_described(stream) for stream in streams] if options.streams else []
    return check_config(parser, options, trials, notes and [f"streams of {options.streams}:", *notes, ""])


def _described(stream: StreamSettings) -> str:
    """Return a stream's settings, of its table and the flags together, in lines of at most 80 characters."""
    settings = [
        f"timeout={stream.timeout_s:g}",
        f"max-frame-size={stream.max_frame_bytes}",
        f"spool-size={stream.spool_bytes}",
        f"replication-factor={stream.replication_factor or '-'}",
        *(f"{key}={value}" for key, value in stream.topic_config.items()),
    ]
    text = f"{stream.name}: {stream.source}, {' '.join(settings)}"
    return textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def default_spool_dir() -> Path:
    """Return the directory of this user's spools. Raises RuntimeError if the user has no home directory."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "g3-recorder" / "spool"


def _default_of_spool_dir() -> dict[str, Any]:
    """The default of --spool-dir, as an argument of add_option."""
    try:
        return {"default": str(default_spool_dir())}
    except RuntimeError:  # no HOME, and the user isn't in /etc/passwd, as in many a container
        return {"required": True}


if __name__ == "__main__":
    sys.exit(main())
