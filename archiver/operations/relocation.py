"""The command `archiver relocate`: moves an archive's private directory, or its checksums, to another place.

After a kill at any point the command is run again: every step may be repeated.

1. lock the archive and the spools, so that no other program writes;
2. rename the private directory as a whole: its partials, identity and locks are in one place at any time;
3. save in the settings where the checksums are moving to, so that no archiver starts in between;
4. move them, directory by directory: a line is in its new place before it leaves the old one;
5. save in the settings that they are there;
6. rename the agent's spool.
"""

import argparse
import contextlib
import errno
import fcntl
import os
import re
import secrets
from contextlib import ExitStack
from pathlib import Path

from archiver.archive import archive_lock
from archiver.archive.archive_settings import SettingsError, is_in_use
from archiver.archive.file_system_check import check_disk
from archiver.archive.location import SETTINGS, SPOOL, Checksums, Location, check_apart, located
from archiver.console.runner import print_out
from archiver.core.paths import ID, SUMS
from archiver.operations import checksums_move
from archiver.storage.directory import Directory
from archiver.storage.no_replace import on_other_mounts
from g3stream.host.fsync import make_directory, sync_directory
from g3stream.log.setup import log_to_stderr


def relocate(options: argparse.Namespace) -> int:
    """Run the command with its options (commands/relocate.py); return its exit code."""
    log_to_stderr("warning", "text")
    source, target = (located(options.data_dir, private) for private in (options.source, options.private_dir))
    whole = move_archive(source, target, options.checksums)
    check_disk(target, f"check.{secrets.token_hex(4)}")
    if target.private_dir:
        print_out(f"from now on give --private-dir {target.private_dir} to the archiver and its commands")
    print_out("done" if whole else "not everything could be moved; see above, then run it again")
    return int(not whole)


def move_archive(source: Location, target: Location, checksums: Checksums | None) -> bool:
    """Move an archive from `source`, or continue if it is at `target` already; return whether everything is moved.

    checksums: their new place; None: unchanged. Prints what is moved, and what can't be moved because a foreign file
    is in the way. Raises OSError.
    """
    for location in (source, target):
        check_apart(location)
    here = _where(source, target)
    with ExitStack() as locks:
        _lock_archive(here, locks)
        _tidy(here)
        _lock_spools({path / SPOOL for it in (source, target) for path in (it.data_dir, it.private_path)}, locks)
        if here.private_path != target.private_path:
            _move(here, target)
            print_out(f"{here.private_path} is {target.private_path} now")
        # Also for an earlier attempt that was killed just after its rename.
        for directory in (here.private_path.parent, target.private_path.parent):
            sync_directory(directory)
        whole = checksums_move.move(target, checksums)
        return _move_spool(target) and whole


def _where(source: Location, target: Location) -> Location:
    """Return which one has the archive's private directory now. Raises SettingsError if that is unclear."""
    old, new = source.private_path, target.private_path
    there, moved = is_in_use(source), is_in_use(target)
    if there and moved and old != new:
        raise SettingsError(None, f"{old} and {new} are both in use. Move the wrong one away")
    if not there and not moved:
        which = f"neither {old} nor {new} is an" if old != new else f"{new} is no"
        raise SettingsError(None, f"{which} archive's private directory; give its place: --from DIR")
    return target if moved else source


# The locks


def _lock_archive(location: Location, locks: ExitStack) -> None:
    """Lock out all archivers and commands, including older versions, which lock only what they record.

    Raises OSError.
    """
    locks.callback(os.close, archive_lock.acquire_exclusive(location))
    with location.private() as private:
        instances = [name for name in private.names() if name.endswith(".lock") and name != archive_lock.LOCK]
        streams = [name for name in private.names() if re.fullmatch(ID, name)]
        _lock(private, instances, locks)
    for stream in streams:
        with location.private(stream) as private:
            _lock(private, [name for name in private.names() if name.endswith(".lock")], locks)


def _lock_spools(paths: set[Path], locks: ExitStack) -> None:
    """Lock out every ingest of these spools. Raises OSError."""
    for path in sorted(paths):
        with contextlib.suppress(FileNotFoundError):
            for stream in sorted(path.iterdir()):
                if stream.is_dir():
                    with Directory(path, stream.name) as spool:
                        _lock(spool, [name for name in spool.names() if name == "lock"], locks)


def _lock(directory: Directory, names: list[str], locks: ExitStack) -> None:
    for name in names:
        try:
            locks.callback(os.close, directory.lock(name, fcntl.LOCK_EX))
        except BlockingIOError:
            why = "it is in use by an archiver, an ingest or a command: stop that first"
            raise OSError(errno.EBUSY, why, str(directory.path / name)) from None


# The private directory


def _tidy(location: Location) -> None:
    """Remove temporary files of a killed command; only with the archive locked. Raises OSError."""
    with location.private() as private:
        for name in private.names():
            if name.startswith((f"{SETTINGS}.", f"{SUMS}.")) and private.is_file(name):
                private.unlink(name)


def _move(here: Location, target: Location) -> None:
    """Rename the private directory. Raises OSError."""
    old, new = (Path(os.path.realpath(it.private_path)) for it in (here, target))
    make_directory(new.parent)
    with here.private() as private, here.data() as data, Directory(new.parent, "") as parent:
        for one, other in ((private, parent), (data, parent)):
            if on_other_mounts(one.fd, other.fd):
                raise OSError(errno.EXDEV, _other_mount(one.path), str(new))
    _make_way(old, new)
    try:
        os.rename(old, new)  # noqa: PTH104 - tests kill the command in calls of os
    except OSError as error:
        why = _other_mount(old) if error.errno == errno.EXDEV else f"can't be renamed to it: {old}: {error.strerror}"
        raise OSError(error.errno, why, str(new)) from None


def _other_mount(path: Path) -> str:
    return (
        f"it is on another file system or mount than {path}, which can't be renamed to it. Choose one on the same; "
        "a service or a container must see both below one mounted directory (docs/operate/systemd.md)"
    )


def _make_way(old: Path, new: Path) -> None:
    """Remove what a refused start has left in the new directory; move an agent's spool out of it. Raises OSError."""
    if not new.exists():
        return
    with Directory(new, "") as directory, Directory(old, "") as there:
        names = directory.names()
        if SPOOL in names:
            if there.stat(SPOOL):
                raise OSError(
                    errno.EEXIST, f"there is a spool at {old / SPOOL}, too; move one of them away", str(new / SPOOL)
                )
            directory.rename(SPOOL, there, SPOOL)
        for name in names:
            if name.endswith(".lock") or name == SETTINGS or name.startswith(f"{SETTINGS}."):
                directory.unlink(name)
    try:
        new.rmdir()
    except OSError:
        what = ", ".join(sorted(it.name for it in new.iterdir())[:3])
        raise OSError(errno.ENOTEMPTY, f"it isn't empty: {what}; choose another directory", str(new)) from None


# The agent's spool


def _move_spool(location: Location) -> bool:
    """Move the agent's spools; return whether all are moved. Raises OSError."""
    new = location.spool_path
    [old] = {location.data_dir / SPOOL, location.private_path / SPOOL} - {new}
    if not old.is_dir():
        return True
    make_directory(new, private=True)
    with Directory(old, "") as source, Directory(new, "") as target:
        for name in sorted(source.names()):
            try:
                if target.stat(name):
                    raise FileExistsError(errno.EEXIST, f"{new / name} exists, too")
                source.rename(name, target, name)
            except OSError as error:
                print_out(f"{old / name} was not moved: {error.strerror}")
        target.sync()
        source.sync()
        if source.names():
            return False
    old.rmdir()
    sync_directory(old.parent)
    print_out(f"{old} is {new} now")
    return True
