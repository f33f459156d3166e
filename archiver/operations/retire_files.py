"""The command `archiver retire`: records that files were deleted on purpose, so that they aren't missing."""

import argparse
import contextlib
from collections.abc import Collection, Mapping
from datetime import UTC, tzinfo
from typing import Any

from archiver.archive import identity
from archiver.archive.location import Location, located
from archiver.console.runner import CommandError, print_err, with_kafka
from archiver.console.tables import Part, Table, print_parts
from archiver.core.catalog import FileCatalog
from archiver.core.events import FileRetired
from archiver.core.formatting import count_noun, format_bytes, format_time
from archiver.kafka.publication import publish_events
from archiver.kafka.topic_reader import TopicReader
from archiver.operations.retirement import (
    RetirementOutcome,
    RetirementPlan,
    plan_missing,
    plan_named,
    wrong_directory_reason,
)
from archiver.verify import tree_scan
from g3stream.host.environment import host_name, now_ms


@with_kafka
def retire(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/retire.py); return its exit code."""
    location = located(options.data_dir, options.private_dir)
    root = location.data_dir
    # In this order: a file exists before its event does.
    catalog = FileCatalog.from_events(TopicReader(config, options.group).events())
    there, _ = tree_scan.existing(root, tree_scan.scan_tree(root), catalog.file_events())
    for unreadable in catalog.unreadable:
        print_err(f"{options.parser.prog}: an event of {options.group} can't be understood: {unreadable}")
    if options.path:
        plan = plan_named(catalog, there, options.path, options.stream)
    else:
        if (why := _doubt(location, options.group, catalog, there)) and not options.yes:
            raise CommandError(f"{root}: {why} Nothing is retired; --yes overrides this")
        if unread := sorted(path for path, entry in there.items() if entry.kind):
            print_err(
                f"{options.parser.prog}: {len(unread)} files are skipped, as they can't be read: {unread[0]}, …"
            )
        plan = plan_missing(catalog, there, options.stream, options.before)
    retired = [
        FileRetired(
            *(it.group, it.stream, it.path, it.sha256, it.bytes, now_ms(), options.who, host_name()),
            reason=options.reason,
        )
        for it in plan.retire
    ]
    if not options.dry_run:
        publish_events(config, retired)
    print_parts(as_text(plan, dry_run=options.dry_run, zone=options.zone))
    return int(bool(plan.unknown))


def _doubt(location: Location, group: str, catalog: FileCatalog, there: Collection[str]) -> str:
    """Return why this may not be the group's data directory, or not all of it; empty if it is."""
    with contextlib.suppress(PermissionError):  # it belongs to another user
        if why := identity.mismatch(location, group):
            return f"{why}."
    return wrong_directory_reason(catalog, there)


def as_text(plan: RetirementPlan, *, dry_run: bool, zone: tzinfo | None = UTC) -> list[Part]:
    """Return a table of the files, and their totals. zone: of times; None for the host's."""
    rows = []
    for it in plan.items:
        what = str(it.outcome)
        if it.earlier:
            why = f": {it.earlier.reason}" if it.earlier.reason else ""
            what += f", {format_time(it.earlier.time, zone)} by {it.earlier.who}{why}"
        elif dry_run and it.event:
            what = f"would be {what}"
        rows.append((it.path, format_bytes(it.event.bytes) if it.event else "", what))
    lines: list[Part] = [Table(("file", " size", "what"), rows, frozenset({0, 2})), ""] if rows else []
    outcomes = [it.outcome for it in plan.items]
    retired = f"{count_noun(len(plan.retire), 'file')} {'would be ' if dry_run else ''}retired"
    parts = [f"{retired}, {format_bytes(sum(it.bytes for it in plan.retire))}" if plan.retire else retired]
    others = (
        (outcomes.count(RetirementOutcome.STILL_THERE), "of them still there, to be deleted by you"),
        (outcomes.count(RetirementOutcome.RETIRED_BEFORE) + plan.retired_before_count, "retired before"),
        (plan.still_there_count, "that exist, and so not retired"),
        (outcomes.count(RetirementOutcome.UNKNOWN), "not recorded by this group"),
    )
    parts += [f"{count:,} {what}" for count, what in others if count]
    return [*lines, "; ".join(parts)]
