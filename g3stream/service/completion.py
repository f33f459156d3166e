"""--print-completion: a shell's completion of a program's commands, flags, choices, files and directories."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from g3stream.service.arguments import EnvArgumentParser

SHELLS: Final = ("bash", "zsh", "tcsh")


def completion_option(flags: EnvArgumentParser, whole: Callable[[], EnvArgumentParser]) -> None:
    """Add --print-completion. whole: returns the program's parser with those of its commands."""
    flags.add_argument(
        "--print-completion",
        action=partial(_PrintCompletion, whole),
        choices=SHELLS,
        metavar="SHELL",
        default=argparse.SUPPRESS,
        help=f"print what makes a shell ({', '.join(SHELLS)}) complete this command: docs/operate/systemd.md",
    )


def parser_with_commands(parser: EnvArgumentParser, commands: dict[str, tuple[str, EnvArgumentParser]]) -> None:
    """Add commands to their program's parser, for completion only. commands: the summary and parser of each."""
    subparsers = parser.add_subparsers(parser_class=argparse.ArgumentParser)
    for name, (summary, command) in commands.items():
        _describe_values(command)
        # The description is shown beside the command's name by zsh.
        subparsers.add_parser(name, help=summary, description=summary, parents=[command], add_help=False)


class _PrintCompletion(argparse.Action):
    """Prints the completion script and exits, before anything that is required is missed."""

    def __init__(self, whole: Callable[[], EnvArgumentParser], **how: Any) -> None:
        super().__init__(**how)
        self._whole = whole

    def __call__(self, parser: argparse.ArgumentParser, _: argparse.Namespace, shell: Any, *__: Any) -> None:
        """Print the script for the name by which the program was called: archiver, or g3-archiver."""
        import shtab

        whole = self._whole()
        _describe_values(whole)
        if Path(sys.argv[0]).name == f"g3-{whole.prog}":
            whole.prog = f"g3-{whole.prog}"
        assert isinstance(parser, EnvArgumentParser)
        parser.print_and_exit(shtab.complete(whole, shell) + "\n")


def _describe_values(parser: EnvArgumentParser) -> None:
    """Say, in shtab's way, which arguments are files and directories: their metavar says so to people."""
    import shtab

    completed = {"DIR": shtab.DIRECTORY, "FILE": shtab.FILE, "PATH": shtab.FILE}
    for argument in parser.arguments:
        if argument.metavar in completed:
            argument.complete = completed[argument.metavar]  # type: ignore[attr-defined]  # read by shtab
        elif isinstance(argument.metavar, str):
            argument.metavar = argument.metavar.replace(":", r"\:")  # in zsh a colon ends it
