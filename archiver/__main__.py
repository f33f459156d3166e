"""The command `archiver`: its flags and subcommands. Recording itself is in service.py."""

import argparse
import importlib
import sys

from archiver.console.arguments import CARRY, carried_types, group, private_dir_option
from archiver.console.recording_options import recording_options
from g3stream.host.environment import insufficient_resources
from g3stream.host.standard_streams import prepare_standard_streams
from g3stream.service.arguments import EnvArgumentParser, boolean, directory, stream_flag
from g3stream.service.stop_signals import StopSignals

COMMANDS = {
    "replay": "rebuild files from the topics",
    "verify": "prove that an archive is complete and correct",
    "repair": "rebuild the files that verify finds damaged",
    "files": "list what was recorded",
    "status": "show the state of each stream",
    "close": "end an acquisition whose ingest died",
    "retire": "record that files were deleted on purpose",
    "adopt": "record files that were there before",
    "relocate": "move an archive's private directory or checksums",
    "quarantine": "exclude a record that stops its stream",
}
"""Subcommands and their summaries; each is a module of `commands`. Without one, `archiver` records."""

_THREADS = 32
"""Threads of the archiver itself and of its Kafka clients, with three brokers."""
_HAND_OVER_THREADS = 12
"""Threads of the hand-over of events, likewise."""

_DESCRIPTION = """\
Record the streams that ingest publishes to Kafka as .g3 files:
  DATA_DIR/<5 digits>/<stream id>/2019-01-01-12-00-00_000.g3

A file begins with an acquisition (START, or a first frame) and ends with it
(END, a gap, a disconnection), or after --time-per-file. It appears under its
name when it is complete, and never changes. The archiver may be started before
Kafka, and may be killed at any time: it then continues the same file. Stop it
with SIGTERM or Ctrl-C; it exits 0."""

_EXAMPLES = """\
examples:
  archiver --data-dir /data                 every stream, Kafka at localhost:9092
  archiver --data-dir /data --stream crate1slot2 --bootstrap-servers kafka1:9092
  archiver --data-dir /data --time-per-file 60 --carry Observation --carry Wiring

Several archivers with the same --group and --data-dir share the streams. A
second archive of the same streams needs another --group and another
--data-dir; if only one of them differs, it is refused. Changed settings take
effect with the next acquisition.

commands, each with its own --help:
{commands}

exit codes: 0 stopped by a signal; 1 can't continue, for the reason logged;
2 wrong usage."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the flags."""
    commands = "\n".join(f"  archiver {name:10} {what}" for name, what in COMMANDS.items())
    flags = EnvArgumentParser("archiver", _DESCRIPTION, _EXAMPLES.format(commands=commands))
    flags.add_option(
        "--data-dir", type=directory, required=True, metavar="DIR", help="directory of the files; created if missing"
    )
    private_dir_option(flags)
    recording_options(flags.add_option)
    flags.add_option(
        "--carry",
        default=[],
        **CARRY,
        help="repeat the latest frame of this type at the head of every following file; up to 3 times, or "
        "once as `nothing`; default: Observation",
    )
    flags.add_option(
        "--md5",
        type=boolean,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="also compute the MD5 of files as they are written, for their events on g3.files",
    )
    flags.add_option(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="record this stream; may be repeated; default: every stream, including new ones",
    )
    flags.add_option(
        "--instance-id",
        type=group,
        metavar="NAME",
        help="this archiver's name in the group; default: the host's name and a digest of the data dir",
    )
    flags.add_kafka_options()
    flags.add_http_option()
    return flags


def main(args: list[str] | None = None) -> int:
    """Run the command, and return its exit code.

    args: the command line without the program's name.
    """
    prepare_standard_streams()
    args = sys.argv[1:] if args is None else args
    if args and args[0] in COMMANDS:
        command = importlib.import_module(f"archiver.commands.{args[0]}")
        code: int = command.main(command.make_parser().parse_args(args[1:]))
        return code
    parser = make_parser()
    if args and not args[0].startswith("-"):
        parser.error(f"there is no command {args[0]!r}; the commands are {', '.join(COMMANDS)}")
    options = parser.parse_args(args)
    try:
        options.carry = options.carry or ["Observation"]
        carried_types(options.carry)
    except ValueError as error:
        parser.error(f"--carry: {error}")
    threads = _THREADS + _HAND_OVER_THREADS * (options.on_file is not None)
    if refusal := insufficient_resources(threads):
        print(f"archiver: error: {refusal}", file=sys.stderr)
        return 1
    with StopSignals() as signals:
        # Imported here: --help and wrong usage need not wait for the imports of recording.
        from archiver.service import run

        code = run(options, signals)
    from g3stream.service.process_exit import end_process

    return end_process(code)


if __name__ == "__main__":
    sys.exit(main())
