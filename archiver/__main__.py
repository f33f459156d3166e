"""The command `archiver`: its flags, and its commands. What it does without a command is in service.py."""

import argparse
import importlib
import sys

from archiver.console.arguments import CARRY, carried_types, checksums_option, group, private_dir_option, suprsync_db
from archiver.core.paths import NameFormat
from archiver.handover.on_file import on_file
from g3stream.host.environment import insufficient_resources
from g3stream.host.standard_streams import prepare_standard_streams
from g3stream.service.arguments import EnvArgumentParser, boolean, directory, seconds, stream_flag
from g3stream.service.stop_signals import StopSignals

COMMANDS = {
    "replay": "rebuild files from the topics",
    "verify": "prove that an archive is whole and right",
    "repair": "rebuild what verify finds broken",
    "files": "list what was recorded",
    "status": "show how the streams are now",
    "close": "end an acquisition whose ingest died",
    "retire": "tell that files were deleted on purpose",
    "adopt": "record files that were there before",
    "relocate": "move its private directory, or its checksums",
    "quarantine": "set aside a record that stops its stream",
}
"""Besides recording, which is what `archiver` without a command does; each is a module of `commands`."""

_THREADS = 32
"""Its own and those of its Kafka clients, with three brokers."""
_HAND_OVER_THREADS = 12
"""The same of what hands events over."""

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
another --group with another --data-dir; with only one of them it is refused. Changed settings take effect with the
next acquisition.

commands, each with a --help of its own:
{commands}

exit codes: 0 stopped as asked; 1 can't go on, and says why; 2 wrong usage."""


def make_parser() -> argparse.ArgumentParser:
    """The command's flags."""
    commands = "\n".join(f"  archiver {name:10} {what}" for name, what in COMMANDS.items())
    flags = EnvArgumentParser("archiver", _DESCRIPTION, _EXAMPLES.format(commands=commands))
    flags.add_option(
        "--data-dir", type=directory, required=True, metavar="DIR", help="where the files go; made if missing"
    )
    private_dir_option(flags)
    checksums_option(flags)
    flags.add_option(
        "--time-per-file",
        type=seconds,
        default="600",
        metavar="SECONDS",
        help="the most that one file may span",
    )
    flags.add_option(
        "--gap",
        type=seconds,
        default="10",
        metavar="SECONDS",
        help="so long without frames ends an acquisition",
    )
    flags.add_option(
        "--name-format",
        type=NameFormat,
        choices=list(NameFormat),
        default="date",
        metavar="date|ctime|session",
        help="2019-01-01-12-00-00_000.g3, or 1546344000_000.g3, or so by session_id, as sotodlib finds files",
    )
    flags.add_option(
        "--carry",
        default=[],
        **CARRY,
        help="the last frame of this type heads every following file; up to 3 times, or once `nothing`; Observation "
        "if never given",
    )
    flags.add_option(
        "--md5",
        type=boolean,
        nargs="?",
        const=True,
        default=False,
        metavar="BOOL",
        help="take the MD5 of files, too, while they are written, for their events on g3.files",
    )
    flags.add_option(
        "--stream",
        type=stream_flag,
        action="append",
        default=[],
        metavar="NAME",
        help="record this stream; may be repeated; every stream, new ones as they appear, if never given",
    )
    flags.add_option(
        "--group", type=group, default="archiver", metavar="NAME", help="the Kafka consumer group of this archive"
    )
    flags.add_option(
        "--instance-id",
        type=group,
        metavar="NAME",
        help="who this is in the group; by default the host's name and a digest of the data dir",
    )
    flags.add_option(
        "--on-file",
        type=on_file,
        metavar="COMMAND|URL",
        help="run this, or post to it, for each finished, lost, salvaged or retired event, until it succeeds; "
        "beside the recording: docs/on-file.md",
    )
    flags.add_option(
        "--suprsync-db",
        type=suprsync_db,
        metavar="FILE",
        help="register each finished file in this database of socs' SupRsync agent, which copies it, and say up to "
        "when the archive is final: docs/suprsync.md; turns on --md5",
    )
    flags.add_option(
        "--suprsync-archive-name",
        type=group,
        default="timestreams",
        metavar="NAME",
        help="the --archive-name of that agent",
    )
    flags.add_kafka_options()
    flags.add_http_option()
    return flags


def main(args: list[str] | None = None) -> int:
    """Run the command; args: the command line without the program's name. Gives the exit code."""
    prepare_standard_streams()
    args = sys.argv[1:] if args is None else args
    if args and args[0] in COMMANDS:
        command = importlib.import_module(f"archiver.commands.{args[0]}")
        code: int = command.main(args[1:])
        return code
    parser = make_parser()
    if args and not args[0].startswith("-"):
        parser.error(f"there is no command {args[0]!r}; there are {', '.join(COMMANDS)}")
    options = parser.parse_args(args)
    try:
        options.carry = carried_types(options.carry or ["Observation"])
    except ValueError as error:
        parser.error(f"--carry: {error}")
    threads = _THREADS + _HAND_OVER_THREADS * (options.on_file is not None)
    if refusal := insufficient_resources(threads):
        print(f"archiver: error: {refusal}", file=sys.stderr)
        return 1
    with StopSignals() as signals:
        # Here, so that --help and wrong usage need not wait for all that recording takes.
        from archiver.service import run

        code = run(options, signals)
    from g3stream.service.process_exit import end_process

    return end_process(code)


if __name__ == "__main__":
    sys.exit(main())
