"""The command `archiver files`: lists acquisitions, their files and losses, from the catalog."""

import argparse
import csv
import io
import json
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException

from archiver.catalog import queries
from archiver.catalog.catalog_file import CatalogError, is_damaged
from archiver.catalog.expression import ExpressionError, paths_where
from archiver.catalog.recorded import Recorded, overlaps
from archiver.catalog.rows import FINISHED
from archiver.catalog.update import CatalogUpdater
from archiver.console.arguments import catalog_path
from archiver.console.runner import CommandError, print_err, print_out, with_kafka
from archiver.console.tables import print_parts
from archiver.core.formatting import format_time
from archiver.kafka.topic_reader import TopicReader
from archiver.operations.catalog_progress import CatalogProgress
from archiver.operations.listing import (
    Listing,
    as_json,
    as_table,
    entries,
    paths_of,
    placed,
    retired_as_json,
    retired_as_table,
    retired_of,
)

_KAFKA_S = 5.0
"""How long to wait for Kafka's answer, if the catalog's file can answer instead; else the reader's default."""


@with_kafka
def list_files(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/files.py); return its exit code."""
    path = catalog_path(options)
    may_be_old = path is not None and os.access(path, os.R_OK)
    reader = TopicReader(config, options.group, _KAFKA_S) if may_be_old else TopicReader(config, options.group)

    def notice(text: str) -> None:
        print_err(f"{options.parser.prog}: {text}")

    try:
        with CatalogProgress() as progress, CatalogUpdater(reader, path, notice, progress.update) as updater:
            try:
                found = _find(updater, progress, options, notice)
            except sqlite3.Error as error:
                if not is_damaged(error):
                    raise
                found = _find(updater, progress, options, notice)
    except CatalogError as error:
        options.parser.error(str(error))
    except ExpressionError as error:
        options.parser.error(f"argument --where: {error}")
    except sqlite3.Error as error:
        raise CommandError(f"the catalog {path or 'in memory'} can't be used: {error}") from None
    _print(found, options)
    return 0


class _Found(NamedTuple):
    """What was found in the catalog."""

    entries: Sequence[Listing]
    unreadable: Sequence[str]
    columns: Sequence[str]
    """Of the view `files`, with --format csv."""
    rows: Sequence[Sequence[str | int | None]]


def _find(
    updater: CatalogUpdater, progress: CatalogProgress, options: argparse.Namespace, notice: Callable[[str], None]
) -> _Found:
    """Bring the catalog up to date, and return what is to be printed; if Kafka can't be read, what is known.

    Raises KafkaException, if nothing is known; CatalogError, ExpressionError, sqlite3.Error.
    """
    try:
        updater.update()
    except KafkaException as error:
        updated_ms = updater.updated_ms()
        if updated_ms is None or error.args[0].code() == KafkaError._INVALID_ARG:
            raise
        why = f"Kafka can't be read ({error.args[0].str()})"
        notice(f"{why}: this is what was known at {format_time(updated_ms)} UTC")
    progress.end()
    with updater.reading() as connection:
        found = entries(_selected(connection, options))
        if options.format != "csv":
            return _Found(found, queries.unreadable(connection), (), ())
        paths = [it.path for it in retired_of(found)] if options.retired else list(paths_of(found))
        columns, rows = queries.view_rows(connection, paths)
        return _Found(found, (), columns, [row for path in dict.fromkeys(paths) for row in rows.get(path, ())])


def _selected(connection: sqlite3.Connection, options: argparse.Namespace) -> Recorded:
    """Return what is to be listed. Raises ExpressionError."""
    since_ms, until_ms = options.since, options.until
    if options.where is None and options.session is None:
        return queries.recorded(connection, since_ms, until_ms, options.stream)
    files = queries.files_at(connection, paths_where(connection, options.where or "true", options.session))
    files = [file for file in files if not options.stream or file.stream in options.stream]
    acquisitions = queries.acquisitions_of(file for file in files if file.kind == FINISHED)
    in_time = [it for it in acquisitions if overlaps(it.first_ms, it.last_ms, since_ms, until_ms)]
    others = [it for it in files if it.kind != FINISHED and overlaps(it.begin_ms, it.end_ms, since_ms, until_ms)]
    return Recorded(tuple(in_time), tuple(others), ())


def _print(found: _Found, options: argparse.Namespace) -> None:
    listed = placed(found.entries, options.data_dir)
    retired = retired_of(listed) if options.retired else []
    if options.format == "csv":
        _print_csv(found, options.data_dir)
        return
    if options.format == "json":
        for it in retired:
            print_out(json.dumps(retired_as_json(it, options.group)))
        for entry in listed if not options.retired else ():
            print_out(json.dumps(as_json(entry, options.group)))
        for what in found.unreadable:
            print_out(json.dumps({"kind": "unreadable", "what": what}))
        return
    for what in found.unreadable:
        print_err(f"{options.parser.prog}: an event of {options.group} can't be understood, and isn't listed: {what}")
    if retired:
        print_parts(retired_as_table(retired, options.zone))
    elif listed and not options.retired:
        print_parts(as_table(listed, options.zone))
    else:
        print_err(_nothing(options))


def _nothing(options: argparse.Namespace) -> str:
    """Return the sentence that nothing is listed."""
    did = "no retired file" if options.retired else "finished no file"
    which = f" of {', '.join(sorted(set(options.stream)))}" if options.stream else ""
    when = "" if options.since is None and options.until is None else " in that time"
    such = "" if options.session is None and options.where is None else " that was asked for"
    return f"the group {options.group} has {did}{such}{which}{when}"


def _print_csv(found: _Found, data_dir: Path | None) -> None:
    """Print a line for each file, the first column of which is the path."""
    print_out(",".join(found.columns))
    for path, *rest in found.rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([data_dir / str(path) if data_dir else path, *rest])
        print_out(line.getvalue())
