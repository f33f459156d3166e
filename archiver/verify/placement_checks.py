"""Checks of how an archive is kept: its checksums, and what isn't where it belongs."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from archiver.archive import checksums
from archiver.archive.location import Checksums, Location
from archiver.core.catalog import FileEvent
from archiver.core.paths import PRIVATE_DIRECTORY
from archiver.verify import tree_scan
from archiver.verify.checks import Fault, Finding, fault_of
from archiver.verify.inventory import Inventory


def check_checksum_lines(
    inventory: Inventory,
    events: Mapping[str, FileEvent],
    here: Iterable[str],
    unlisted: Iterable[str],
    is_selected: Callable[[str, str], bool],
) -> list[Finding]:
    """Check the checksums of these files. They are read now, as a line is written before its event.

    events: by path, of the selected files.
    here: those of their paths that exist.
    unlisted: paths of files without an event.
    is_selected: whether a stream (with an empty path) or a path of a stream is selected.
    """
    if not _has_checksums(inventory):
        return []
    location, found = inventory.location, []
    recorded: dict[str, list[FileEvent]] = {path.rpartition("/")[0]: [] for path in events}
    for path in here:
        recorded[path.rpartition("/")[0]].append(events[path])
    is_private = location.checksums is Checksums.PRIVATE
    others = checksums.private_parents(location) if is_private else inventory.tree.summed_directories
    for parent in sorted({*recorded, *others, *(path.rpartition("/")[0] for path in unlisted)}):
        stream = inventory.stream_of(f"{parent}/")
        if not is_selected(stream, "") and parent not in recorded:
            continue
        file = checksums.display_path(location, parent)
        lines: Mapping[str, str] | None = None
        try:
            lines = checksums.lines(location, parent)
            for path in (f"{parent}/{name}" for name in lines):
                is_unknown = path not in inventory.file_events and is_selected(stream, path)
                if is_unknown and not _is_there(location, path, parent):
                    text = f"{file} has a line for it, but there is no such file, and no event of one"
                    found.append(Finding(Fault.ORPHAN_CHECKSUM, stream, path, text))
        except FileNotFoundError:
            pass  # the directory isn't there, and so its files are missing
        except OSError as error:
            why = error.strerror or str(error)
            found.append(Finding(Fault.UNREADABLE, stream, checksums.path(location, parent), why))
        if lines is None:
            continue
        for event in recorded.get(parent, ()):
            line = lines.get(event.path.removeprefix(f"{parent}/"))
            if line is None:
                found.append(fault_of(event, Fault.NO_CHECKSUM, f"it has no line in {file}"))
            elif line != event.sha256:
                text = f"its line in {file} is {line[:16]}…; it should be {event.sha256[:16]}…"
                found.append(fault_of(event, Fault.WRONG_CHECKSUM, text))
    return found


def notes(inventory: Inventory) -> Iterator[str]:
    """Yield notes for the operator that are no faults. Raises OSError."""
    location, summed = inventory.location, sorted(inventory.tree.summed_directories)
    if inventory.partials is None:
        was = next((it for it in inventory.archive_locations() if " --private-dir " in it), "")
        unseen = location.checksums is not Checksums.OFF and not _has_checksums(inventory)
        if unseen or was or location.private_dir:
            what = "; checksums aren't checked" if unseen else ""
            hint = f"; the archive was at {was}" if was else ""
            yield f"there is no private directory {location.private_path}, or it may not be read{what}{hint}"
    if location.checksums is not Checksums.BESIDE and summed:
        yield (
            f"{len(summed)} directories have a SHA256SUMS, such as {summed[0]}, though this archive's checksums are "
            f"{location.checksums}: not checked; `archiver relocate` removes them"
        )
    if location.private_dir and tree_scan.partials(Location(location.data_dir)) is not None:
        yield f"{PRIVATE_DIRECTORY} in the data directory isn't this archive's"


def _has_checksums(inventory: Inventory) -> bool:
    """Whether there are checksums to check; their place may be unknown."""
    may_be_read = inventory.partials is not None or bool(inventory.tree.summed_directories)
    return may_be_read and inventory.location.checksums is not Checksums.OFF


def _is_there(location: Location, path: str, parent: str) -> bool:
    if path.rpartition("/")[0] != parent or "\0" in path:
        return False  # no name
    try:
        tree_scan.stat_entry(location.data_dir, path)
    except FileNotFoundError:
        return False
    return True
