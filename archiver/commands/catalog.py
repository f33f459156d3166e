"""Bring the catalog of an archive (--group) up to date from the topic g3.files:
a SQLite file of its files, acquisitions, sessions, observations and losses,
with views for people. docs/analyse/catalog.md describes it, with examples.

It is made if it is missing, and again if it is damaged, or if g3.files is no
longer the same topic. It is never a source of truth: delete it at any time.
Recording neither writes it nor waits for it. `archiver files` and `archiver
web` bring it up to date, too, and several programs may do so at once; so this
command is for other software that reads it.

examples:
  archiver catalog --data-dir /data
  archiver catalog --data-dir /data --follow
  archiver catalog --catalog /srv/catalog.sqlite --rebuild
  sqlite3 /data/.archiver/catalog.sqlite 'SELECT * FROM nights'
  datasette /data/.archiver/catalog.sqlite
"""

import argparse

from archiver.console.arguments import catalog_option, command_parser, group_option, private_dir_option
from g3stream.service.arguments import EnvArgumentParser, directory


def make_parser() -> EnvArgumentParser:
    """Return the parser of the command's flags."""
    flags = command_parser(
        "catalog",
        __doc__,
        fine="it is up to date",
        wrong="Kafka can't be read, or the catalog not written; the reason is printed",
        act="archiver.operations.update_catalog:update_catalog",
        check=_check,
        stopped="stopped; it continues from there",
    )
    what = "where the archive is"
    flags.add_option("--data-dir", env="ARCHIVER_DATA_DIR", type=directory, metavar="DIR", help=what)
    private_dir_option(flags, env="ARCHIVER_PRIVATE_DIR")
    catalog_option(flags)
    group_option(flags)
    flags.add_argument("--rebuild", action="store_true", help="make it again, from the first event on")
    flags.add_argument("--follow", action="store_true", help="keep it up to date, until Ctrl-C")
    flags.add_kafka_options()
    return flags


def _check(options: argparse.Namespace) -> None:
    """Check that it is known where the catalog is."""
    if options.data_dir is None and options.catalog is None:
        options.parser.error("one of these is required: --data-dir or --catalog")
