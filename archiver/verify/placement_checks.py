"""Checks of how an archive is kept: its checksums, and what isn't where it belongs."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from archiver.archive import checksums
from archiver.archive.location import Checksums, Location
from archiver.core.catalog import FileEvent
from archiver.core.paths import PRIVATE_DIRECTORY
from archiver.verify import checks, tree_scan
from archiver.verify.checks import Fault, Finding
from archiver.verify.inventory import Inventory


def check_checksum_lines(
    location: Location,
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
    if not _has_checksums(location, inventory):
        return []
    found = []
    lines: dict[str, Mapping[str, str]] = {}
    only: list[tuple[str, str]] = []
    parents = {path.rpartition("/")[0] for path in (*events, *unlisted)}
    is_private = location.checksums is Checksums.PRIVATE
    parents |= checksums.private_parents(location) if is_private else inventory.tree.summed_directories
    for parent in sorted(parents):
        stream = inventory.stream_of(f"{parent}/")
        if not is_selected(stream, "") and not any(path.startswith(f"{parent}/") for path in events):
            continue
        try:
            lines[parent] = checksums.lines(location, parent)
            for name in lines[parent]:
                path = f"{parent}/{name}"
                if (
                    path not in inventory.file_events
                    and is_selected(stream, path)
                    and not _is_there(location, parent, name)
                ):
                    only.append((stream, path))
        except FileNotFoundError:
            continue  # the directory isn't there, and so its files are missing
        except OSError as error:
            why = error.strerror or str(error)
            found.append(Finding(Fault.UNREADABLE, stream, checksums.path(location, parent), why))
    files = {parent: checksums.display_path(location, parent) for parent in lines}
    return found + checks.check_checksums(events, here, lines, only, files)


def notes(location: Location, inventory: Inventory) -> Iterator[str]:
    """Yield notes for the operator that are no faults. Raises OSError."""
    summed = sorted(inventory.tree.summed_directories)
    if not inventory.has_private:
        was = next((it for it in inventory.archive_locations() if " --private-dir " in it), "")
        unseen = location.checksums is not Checksums.OFF and not _has_checksums(location, inventory)
        if unseen or was or location.private_dir:
            what = "; checksums aren't checked" if unseen else ""
            hint = f"; the archive was at {was}" if was else ""
            yield f"there is no private directory {location.private_path}, or it may not be read{what}{hint}"
    if location.checksums is not Checksums.BESIDE and summed:
        yield (
            f"{len(summed)} directories have a SHA256SUMS, such as {summed[0]}, though this archive's checksums are "
            f"{location.checksums}: not checked; `archiver relocate` removes them"
        )
    if location.private_dir and tree_scan.has_private(Location(location.data_dir)):
        yield f"{PRIVATE_DIRECTORY} in the data directory isn't this archive's"


def _has_checksums(location: Location, inventory: Inventory) -> bool:
    """Whether there are checksums to check; their place may be unknown."""
    return location.checksums is not Checksums.OFF and (
        inventory.has_private or bool(inventory.tree.summed_directories)
    )


def _is_there(location: Location, parent: str, name: str) -> bool:
    if "/" in name or "\0" in name:
        return False  # no name
    try:
        tree_scan.stat_entry(location.data_dir, f"{parent}/{name}")
    except FileNotFoundError:
        return False
    return True
