"""The command `archiver relocate`: moves an archive's private directory, or its checksums."""

import argparse
import secrets
import signal

from archiver.archive.file_system_check import check_disk
from archiver.archive.location import located
from archiver.console.runner import print_err, print_out
from archiver.operations.relocation import relocate as move
from g3stream.service.logs import log_to_stderr

_PROG = "archiver relocate"


def relocate(options: argparse.Namespace) -> int:
    """Run the command with its options (commands/relocate.py); return its exit code."""
    log_to_stderr("warning", "text")
    try:
        source = located(options.data_dir, options.source)
        target = located(options.data_dir, options.private_dir)
        whole = move(source, target, options.checksums, print_out)
        check_disk(target, f"check.{secrets.token_hex(4)}")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print_err(f"{_PROG}: error: {where}{error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        print_err(f"\n{_PROG}: stopped; run it again to continue")
        return 128 + signal.SIGINT
    if target.private_dir:
        print_out(f"from now on give --private-dir {target.private_dir} to the archiver and its commands")
    print_out("done" if whole else "not everything could be moved; see above, then run it again")
    return int(not whole)
