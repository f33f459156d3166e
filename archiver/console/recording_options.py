"""The options of recording, for `archiver` and for the agents that record; no imports that slow --help down."""

from collections.abc import Callable

from archiver.console.arguments import CHECKSUMS, group, suprsync_db
from archiver.core.paths import NameFormat
from archiver.handover.on_file import on_file
from g3stream.service.arguments import seconds


def recording_options(add_option: Callable[..., object]) -> None:
    """Add the options of recording. add_option: as ArgumentParser.add_argument."""
    what = "longest time span of one file: 600, 600s, 10m, …"
    add_option("--time-per-file", type=seconds, default="600", metavar="DURATION", help=what)
    what = "an acquisition ends after so long without frames"
    add_option("--gap", type=seconds, default="10", metavar="DURATION", help=what)
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
    what = "the Kafka consumer group of this archive"
    add_option("--group", type=group, default="archiver", metavar="NAME", help=what)
    what = "run this command, or post to this URL, for each event (file, loss, salvaged, retired) until it succeeds; "
    what += "recording doesn't wait for it: docs/operate/on-file.md"
    add_option("--on-file", type=on_file, metavar="COMMAND|URL", help=what)
    what = "register each finished file in this database of socs' SupRsync agent, which copies it, and report up to "
    what += "when the archive is final: docs/operate/suprsync.md; has the MD5 of files computed as they are written"
    add_option("--suprsync-db", type=suprsync_db, metavar="FILE", help=what)
    what = "the --archive-name of that agent"
    add_option("--suprsync-archive-name", type=group, default="timestreams", metavar="NAME", help=what)
