"""Look at the latest seconds of each stream, to see whether the data are sane:
how many channels are live, their noise and spectra, and whether samples are
missing. A process of its own that joins no group and only reads; it is
optional, and nothing else notices if it is down.

  /v1/STREAM.json    the numbers, and some channels (?channels=r0001,r0002)
  /metrics, /healthz for Prometheus and any monitoring

`archiver web --quicklook http://127.0.0.1:8781` shows them as a page.

Scan frames are decoded by so3g, in a process of its own, as it has an spt3g
that can't be loaded beside ours: by this Python, if so3g is installed for it
(g3-recorder's extra [quicklook]), or by --python.

examples:
  archiver quicklook                        http://127.0.0.1:8781/
  archiver quicklook --stream crate1slot2 --every 10s
  archiver quicklook --python /opt/so3g/bin/python
"""

import argparse
import os
import sys
from importlib.util import find_spec
from shutil import which

from archiver.console.arguments import command_parser, stream_options
from g3stream.service.arguments import EnvArgumentParser, http_endpoint, seconds, size
from g3stream.service.endpoint import ListenEndpoint

_MAX_CHANNELS = 24
_MAX_BYTES = "64MiB"
_MOST_SECONDS = 300.0


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "quicklook",
        __doc__,
        fine="stopped by a signal",
        wrong="can't run, for the reason logged",
        act="archiver.quicklook.service:serve",
        check=_check,
    )
    what = "where to serve; only to this host if no HOST is given"
    default = ListenEndpoint("127.0.0.1", 8781)
    flags.add_option("--http", type=http_endpoint, default=default, metavar="[HOST:]PORT", help=what)
    what = "an interpreter that has so3g; this one if not given"
    flags.add_option("--python", metavar="PATH", help=what)
    what = "how much is looked at each time"
    flags.add_option("--seconds", type=seconds, default=10.0, metavar="DURATION", help=what)
    what = "how often each stream is looked at, if there is time: all looks take a fifth of the time at most"
    flags.add_option("--every", type=seconds, default=30.0, metavar="DURATION", help=what)
    what = "how much of a stream is read for a look; of more, the newest"
    flags.add_option("--max-bytes", type=size, default=_MAX_BYTES, metavar="SIZE", help=what)
    what = "channels to show, separated by commas; some live ones if not given"
    flags.add_option("--channels", type=_channels, default=[], metavar="NAMES", help=what)
    stream_options(flags)
    flags.add_kafka_options()
    return flags


def _channels(text: str) -> list[str]:
    names = [name for name in text.replace(" ", ",").split(",") if name]
    if len(names) > _MAX_CHANNELS:
        raise argparse.ArgumentTypeError(f"{len(names)} channels; at most {_MAX_CHANNELS} are shown")
    return names


def _check(options: argparse.Namespace) -> None:
    """Exit as wrong usage if there is no so3g, or nothing that could be looked at."""
    if options.seconds > _MOST_SECONDS:
        options.parser.error(f"argument --seconds: at most {_MOST_SECONDS:g} s")
    if not options.python:
        options.python = sys.executable
        if find_spec("so3g") is None:
            how = "install g3-recorder's extra [quicklook], or name a Python that has it: --python"
            options.parser.error(f"quick look needs so3g: {how}")
    elif not (path := which(options.python)) or not os.access(path, os.X_OK):
        options.parser.error(f"argument --python: {options.python} isn't found, or not executable")
