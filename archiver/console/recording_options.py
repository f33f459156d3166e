"""The options of recording, for `archiver` and for the agents that record; no imports that slow --help down."""

from collections.abc import Callable

from archiver.console.arguments import CHECKSUMS, group, suprsync_db
from archiver.core.paths import NameFormat
from archiver.handover.on_file import on_file
from g3stream.service.arguments import seconds


def recording_options(add_option: Callable[..., object]) -> None:
    """Add the options of recording. add_option: as ArgumentParser.add_argument."""
    add_option(
        "--time-per-file", type=seconds, default="600", metavar="SECONDS", help="longest time span of one file"
    )
    add_option(
        "--gap",
        type=seconds,
        default="10",
        metavar="SECONDS",
        help="an acquisition ends after this long without frames",
    )
    add_option(
        "--name-format",
        type=NameFormat,
        choices=list(NameFormat),
        default="date",
        metavar="date|ctime|session",
        help="2019-01-01-12-00-00_000.g3, 1546344000_000.g3, or <session_id>_000.g3, the names by which sotodlib "
        "finds files",
    )
    add_option("--checksums", **CHECKSUMS)
    add_option(
        "--group", type=group, default="archiver", metavar="NAME", help="the Kafka consumer group of this archive"
    )
    add_option(
        "--on-file",
        type=on_file,
        metavar="COMMAND|URL",
        help="run this command, or post to this URL, for each event (file, loss, salvaged, retired) until it "
        "succeeds; recording doesn't wait for it: docs/on-file.md",
    )
    add_option(
        "--suprsync-db",
        type=suprsync_db,
        metavar="FILE",
        help="register each finished file in this database of socs' SupRsync agent, which copies it, and report up "
        "to when the archive is final: docs/suprsync.md; has the MD5 of files computed as they are written",
    )
    add_option(
        "--suprsync-archive-name",
        type=group,
        default="timestreams",
        metavar="NAME",
        help="the --archive-name of that agent",
    )
