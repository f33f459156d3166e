"""The command `archiver catalog`: brings a catalog up to date, makes it again, or follows g3.files."""

import argparse
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from archiver.catalog import queries
from archiver.catalog.catalog_file import CatalogError
from archiver.catalog.update import CatalogUpdater
from archiver.console.arguments import catalog_path
from archiver.console.runner import CommandError, print_err, print_lines, with_kafka
from archiver.core.formatting import count_noun
from archiver.kafka.topic_reader import TopicReader
from archiver.operations.catalog_progress import CatalogProgress

_FOLLOW_S = 2.0


@with_kafka
def update_catalog(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/catalog.py); return its exit code."""
    path = catalog_path(options)
    assert path
    if not path.parent.is_dir():
        raise CommandError(f"there is no directory {path.parent}: nobody has recorded there, or it isn't mounted")
    with CatalogProgress() as progress:

        def notice(text: str) -> None:
            print_err(f"{options.parser.prog}: {text}")

        with CatalogUpdater(TopicReader(config, options.group), path, notice, progress.update) as updater:
            try:
                if options.follow:
                    _follow(updater, path, progress, notice, rebuild=options.rebuild)
                _update(updater, path, progress, rebuild=options.rebuild)
            except CatalogError as error:
                options.parser.error(str(error))
            except sqlite3.Error as error:
                raise CommandError(f"the catalog {path} can't be used: {error}") from None
    return 0


def _update(
    updater: CatalogUpdater, path: Path, progress: CatalogProgress, *, rebuild: bool = False, quiet: bool = False
) -> None:
    """Bring the catalog up to date, and say what is in it; nothing, if that is nothing new and `quiet`."""
    count = updater.update(rebuild=rebuild)
    progress.end()
    if updater.not_writable:
        raise CommandError(f"the catalog {path} can't be written: {updater.not_writable}")
    if count or not quiet:
        with updater.reading() as connection:
            files, losses = queries.counts(connection)
        read = f"{count_noun(count, 'new record')} of g3.files"
        print_lines(
            f"{path}: {count_noun(files, 'file')}, {losses:,} {'loss' if losses == 1 else 'losses'}, {read}",
            flush=True,
        )


def _follow(
    updater: CatalogUpdater, path: Path, progress: CatalogProgress, notice: Callable[[str], None], *, rebuild: bool
) -> None:
    """Keep the catalog up to date; while Kafka can't be read, it is tried again."""
    shown, quiet = "", False
    while True:
        try:
            _update(updater, path, progress, rebuild=rebuild, quiet=quiet)
            if shown:
                notice("Kafka can be read again")
            shown, quiet, rebuild = "", True, False
        except KafkaException as error:
            if error.args[0].code() == KafkaError._INVALID_ARG:
                raise
            why = error.args[0].str()
            if why != shown:
                notice(f"Kafka can't be read ({why}); it is tried again each {_FOLLOW_S:g} s")
            shown = why
        time.sleep(_FOLLOW_S)
