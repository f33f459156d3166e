"""Record the streams that ingest publishes to Kafka as .g3 files, and look after
what is recorded. Each command has its own --help:

Recording makes files
  DATA_DIR/<5 digits>/<stream id>/2019-01-01-12-00-00_000.g3

A file begins with an acquisition (START, or a first frame) and ends with it
(END, a gap, a disconnection), or after --time-per-file. It appears under its
name when it is complete, and never changes. The archiver may be started before
Kafka, and may be killed at any time: it then continues the same file. Stop it
with SIGTERM or Ctrl-C; it exits 0.

examples:
  archiver run --data-dir /data             every stream, Kafka at localhost:9092
  archiver run --data-dir /data --stream crate1slot2 \\
               --bootstrap-servers kafka1:9092
  archiver run --data-dir /data --time-per-file 1m --carry Wiring

Several archivers with the same --group and --data-dir share the streams. A
second archive of the same streams needs another --group and another
--data-dir; if only one of them differs, it is refused. Changed settings take
effect with the next acquisition.

Man pages, and completion of commands and flags with Tab: docs/operate/systemd.md

exit codes: 0 stopped by a signal; 1 can't continue, for the reason logged;
2 wrong usage."""

import argparse
import sys
from importlib import import_module

from archiver.console.arguments import CARRY, carried_types, group, private_dir_option, resolve_times
from archiver.console.recording_options import recording_options
from g3stream.contract.topics import frames_topic
from g3stream.host.environment import insufficient_resources
from g3stream.host.standard_streams import prepare_standard_streams
from g3stream.service.arguments import EnvArgumentParser, boolean, did_you_mean, directory, stream_flag
from g3stream.service.completion import completion_option, parser_with_commands
from g3stream.service.stop_signals import StopSignals

COMMANDS = {
    "status": "say what is wrong; show each stream",
    "web": "serve a page: now, each night, every file",
    "quicklook": "look at the latest seconds: live channels, noise",
    "tail": "show a stream's last frames, and what comes",
    "relay": "serve a stream to spt3g readers, as its sender would",
    "info": "show an archive on one screen",
    "files": "list what was recorded",
    "catalog": "keep a SQLite file of what was recorded",
    "verify": "prove that an archive is complete and correct",
    "repair": "rebuild the files that verify finds damaged",
    "replay": "rebuild files from the topics",
    "retire": "record that files were deleted on purpose",
    "adopt": "record files that were there before",
    "relocate": "move an archive's private directory or checksums",
    "close": "end an acquisition whose ingest died",
    "quarantine": "exclude a record that stops its stream",
}
"""Each is a module of `commands`, with what it does. Without one, `archiver` records (service.py)."""
_RUN = "record until a signal: all options below are its own"

_THREADS = 40
"""Threads of the archiver itself and of its Kafka clients, with three brokers."""
_HAND_OVER_THREADS = 12
"""Threads of the hand-over of events, likewise."""


def make_parser() -> EnvArgumentParser:
    """Return the parser of the flags."""
    flags = EnvArgumentParser("archiver", _with_list_of_commands(__doc__))
    flags.usage = "archiver COMMAND [options]\n       archiver [run] --data-dir DIR [options]"
    what = "directory of the files; created if missing"
    flags.add_option("--data-dir", type=directory, required=True, metavar="DIR", help=what)
    private_dir_option(flags)
    recording_options(flags.add_option)
    what = "repeat the latest frame of this type at the head of every following file; up to 3 times, or "
    what += "once as `nothing`; default: Observation"
    flags.add_option("--carry", default=[], **CARRY, help=what)
    what = "also compute the MD5 of files as they are written, for their events on g3.files"
    flags.add_option("--md5", type=boolean, nargs="?", const=True, default=False, metavar="BOOL", help=what)
    what = "record this stream; may be repeated; default: every stream, including new ones"
    flags.add_option("--stream", type=stream_flag, action="append", default=[], metavar="NAME", help=what)
    what = "this archiver's name in the group; default: the host's name and a digest of the data dir"
    flags.add_option("--instance-id", type=group, metavar="NAME", help=what)
    flags.add_kafka_options()
    flags.add_service_options()
    completion_option(flags, _parser_with_commands)
    return flags


def make_command_parser(command: str) -> EnvArgumentParser:
    """Return the parser of one of COMMANDS."""
    parser: EnvArgumentParser = import_module(f"archiver.commands.{command}").make_parser()
    return parser


def main(args: list[str] | None = None) -> int:
    """Run the command, and return its exit code.

    args: the command line without the program's name.
    """
    prepare_standard_streams()
    args = sys.argv[1:] if args is None else args
    if args and args[0] in COMMANDS:
        options = make_command_parser(args[0]).parse_args(args[1:])
        resolve_times(options)
        if options.check:
            options.check(options)
        from archiver.console.runner import run_command

        return run_command(options)
    parser = make_parser()
    if args and args[0] == "run":
        args = args[1:]
    if args and not args[0].startswith("-"):
        names = ("run", *COMMANDS)
        parser.error(
            f"there is no command {args[0]!r}{did_you_mean(args[0], names)} (the commands: {', '.join(names)})"
        )
    options = parser.parse_args(args)
    try:
        options.carry = options.carry or ["Observation"]
        carried_types(options.carry)
    except ValueError as error:
        parser.error(f"--carry: {error}")
    if options.check_config:
        return _check_config(parser, options)
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


def _check_config(parser: EnvArgumentParser, options: argparse.Namespace) -> int:
    """Show the settings, and try what they name; return the exit code."""
    from archiver.handover.on_file import Command
    from g3stream.service import config_check

    trials = list(config_check.kafka_trials(options, [frames_topic(stream) for stream in options.stream]))
    trials.append(config_check.directory_trial("the data directory", options.data_dir))
    if options.private_dir:
        trials.append(config_check.directory_trial("the private directory", options.private_dir))
    if isinstance(options.on_file, Command):
        trials.append(config_check.command_trial("--on-file", options.on_file.argv[0]))
    trials += config_check.http_trials(options.http)
    return config_check.check_config(parser, options, trials)


def _with_list_of_commands(text: str | None) -> str:
    """Return the text for --help with the commands below its first paragraph. text: None with `python -OO`."""
    first, _, rest = (text or "").partition("\n\n")
    listed = [f"  archiver {name:<10} {what}" for name, what in {"run": _RUN, **COMMANDS}.items()]
    listed.insert(1, " " * 22 + "(the word may be left out: archiver --data-dir DIR)")
    return "\n".join([first, "", *listed, "", rest])


def _parser_with_commands() -> EnvArgumentParser:
    """Return the parser for completion, which knows the commands, too."""
    parser = make_parser()
    commands = {name: (what, make_command_parser(name)) for name, what in COMMANDS.items()}
    parser_with_commands(parser, {"run": ("record until a signal", make_parser()), **commands})
    return parser


if __name__ == "__main__":
    sys.exit(main())
