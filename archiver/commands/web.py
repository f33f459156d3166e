"""Serve a page for a browser: what is recorded now, each night on a timeline, and
every file. A process of its own that joins no group and only reads: whatever
happens to it, recording continues.

  /                       what is wrong, in sentences; each stream and archiver
  /night/2026-11-29       the night from that noon (UTC) to the next
  /files?stream=NAME      files by stream, session, time, missing frames
  /file/PATH, /acquisition/STREAM/NUMBER, /session/ID    one of them, forever
  /quicklook/STREAM       channels, noise, spectra now; with --quicklook

Each URL gives JSON, too: with .json at its end, or `Accept: application/json`.
It works beside a stopped Kafka, too, and says since when it isn't live.

The page is for everybody who can reach the port: by default, only this host.

examples:
  archiver web                              http://127.0.0.1:8780/
  archiver web --data-dir /data             with absolute paths
  archiver web --http 0.0.0.0:8780          for all hosts
"""

import argparse
from importlib.util import find_spec
from urllib.parse import urlsplit

from archiver.console.arguments import (
    catalog_option,
    catalog_path,
    command_parser,
    private_dir_option,
    stream_options,
)
from g3stream.service.arguments import EnvArgumentParser, directory, host, http_endpoint
from g3stream.service.endpoint import ClientEndpoint, ListenEndpoint

_NEEDED = ("starlette", "uvicorn", "jinja2")


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "web",
        __doc__,
        fine="stopped by a signal",
        wrong="can't continue, for the reason logged",
        act="archiver.web.service:serve",
        check=_check,
    )
    what = "where to serve the page; only to this host if no HOST is given"
    default = ListenEndpoint("127.0.0.1", 8780)
    flags.add_option("--http", type=http_endpoint, default=default, metavar="[HOST:]PORT", help=what)
    what = "where the archive is, for absolute paths and its catalog; the page works without it"
    flags.add_option("--data-dir", env="ARCHIVER_DATA_DIR", type=directory, metavar="DIR", help=what)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    catalog_option(flags)
    what = "where `archiver quicklook` serves, such as http://127.0.0.1:8781; no stream has a quick look without it"
    flags.add_option("--quicklook", env="ARCHIVER_QUICKLOOK_URL", type=quicklook_url, metavar="URL", help=what)
    stream_options(flags)
    flags.add_kafka_options()
    return flags


def quicklook_url(text: str) -> ClientEndpoint:
    """Type of a flag: the URL of the quick-look process."""
    valid = "write http://HOST:PORT"
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no URL; {valid}") from None
    if found.scheme != "http" or not found.hostname or port is None or found.path not in ("", "/") or found.query:
        raise argparse.ArgumentTypeError(f"{text!r} is not where quick look serves; {valid}")
    return ClientEndpoint(host(found.hostname), port)


def _check(options: argparse.Namespace) -> None:
    """Exit as wrong usage if the extra `web` isn't installed, or the catalog can't be where it is to be."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        options.parser.error(f"the page needs {', '.join(missing)}: install g3-recorder's extra [web]")
    catalog_path(options)
