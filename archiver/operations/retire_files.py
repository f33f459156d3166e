"""The command `archiver retire`: records that files were deleted on purpose, so that they aren't missing."""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from archiver.archive import identity
from archiver.archive.location import Location, located
from archiver.console.runner import print_err, print_lines, run_client, table
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
from g3stream.host.environment import host_name

_PROG = "archiver retire"


def retire(options: argparse.Namespace, paths: Sequence[str]) -> int:
    """Run the command with its options (commands/retire.py); return its exit code.

    paths: relative to the data directory.
    """
    return run_client(options, _PROG, lambda config: _retire(config, options, paths))


def _retire(config: Mapping[str, Any], options: argparse.Namespace, paths: Sequence[str]) -> int:
    location = located(options.data_dir, options.private_dir)
    root = location.data_dir
    history = TopicReader(config, options.group)
    # In this order: a file exists before its event does.
    catalog = FileCatalog.from_events(history.events())
    there, _ = tree_scan.existing(root, tree_scan.scan_tree(root), catalog.file_events())
    for unreadable in catalog.unreadable:
        print_err(f"{_PROG}: an event of {options.group} can't be understood: {unreadable}")
    if paths:
        plan = plan_named(catalog, there, paths, options.stream)
    else:
        if (why := _doubt(location, options.group, catalog, there)) and not options.yes:
            print_err(f"{_PROG}: error: {root}: {why} Nothing is retired; --yes overrides this")
            return 1
        unreadable_paths = sorted(path for path, entry in there.items() if entry.kind)
        if unreadable_paths:
            print_err(
                f"{_PROG}: {len(unreadable_paths)} files are skipped, as they can't be read: {unreadable_paths[0]}, …"
            )
        plan = plan_missing(catalog, there, options.stream, options.before)
    retired = [
        FileRetired(
            *(it.group, it.stream, it.path, it.sha256, it.bytes, _now(), options.who, host_name()),
            reason=options.reason,
        )
        for it in plan.retire
    ]
    if not options.dry_run:
        publish_events(config, retired)
    print_lines(as_text(plan, dry_run=options.dry_run))
    return int(bool(plan.unknown))


def _doubt(location: Location, group: str, catalog: FileCatalog, there: Mapping[str, tree_scan.FileEntry]) -> str:
    """Return why this may not be the group's data directory, or not all of it; empty if it is."""
    try:
        own = identity.read(location)
    except PermissionError:  # it belongs to another user
        return wrong_directory_reason(catalog, there)
    if own is None:
        return "no archiver has recorded there; or its disk isn't mounted, or it has another --private-dir."
    if own.group != group:
        return f"it is the archive of the group {own.group}, not {group}."
    return wrong_directory_reason(catalog, there)


def as_text(plan: RetirementPlan, *, dry_run: bool) -> str:
    """Return a table of the files, and their totals."""
    lines = []
    if plan.items:
        rows = []
        for it in plan.items:
            what = str(it.outcome)
            if it.earlier:
                why = f": {it.earlier.reason}" if it.earlier.reason else ""
                what += f", {format_time(it.earlier.time)} by {it.earlier.who}{why}"
            elif dry_run and it.outcome in (RetirementOutcome.RETIRED, RetirementOutcome.STILL_THERE):
                what = f"would be {what}"
            rows.append((it.path, format_bytes(it.event.bytes) if it.event else "", what))
        lines += [table(["file", " size", "what"], rows), ""]
    lines.append(_totals(plan, dry_run=dry_run))
    return "\n".join(lines)


def _totals(plan: RetirementPlan, *, dry_run: bool) -> str:
    outcomes = [it.outcome for it in plan.items]
    now = plan.retire
    retired = f"{count_noun(len(now), 'file')} {'would be ' if dry_run else ''}retired"
    parts = [f"{retired}, {format_bytes(sum(it.bytes for it in now))}" if now else retired]
    for count, what in (
        (outcomes.count(RetirementOutcome.STILL_THERE), "of them still there, to be deleted by you"),
        (outcomes.count(RetirementOutcome.RETIRED_BEFORE) + plan.retired_before_count, "retired before"),
        (plan.still_there_count, "that exist, and so not retired"),
        (outcomes.count(RetirementOutcome.UNKNOWN), "not recorded by this group"),
    ):
        if count:
            parts.append(f"{count:,} {what}")
    return "; ".join(parts)


def _now() -> int:
    return time.time_ns() // 1_000_000
