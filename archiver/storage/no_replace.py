"""Naming a file atomically and without ever replacing another one, on every file system (law 4).

Where there are hard links, link(2) does it. Elsewhere (exFAT, SMB, many FUSE file systems; BeeGFS and AFS between two
directories) renameat2(2) with RENAME_NOREPLACE does, which Python doesn't offer; then the file loses its old name.
"""

import ctypes
import errno
import os

NO_LINKS = frozenset({errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_RENAME_NOREPLACE = 1


def link_or_rename(name: str, directory: int, new: str, new_directory: int) -> None:
    """Give the file `name` of one open directory the name `new` in another one.

    Raises FileExistsError if that name is taken, FileNotFoundError if there is no such file, and OSError, which says
    what the file system can't do.
    """
    try:
        os.link(name, new, src_dir_fd=directory, dst_dir_fd=new_directory, follow_symlinks=False)
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        why_no_link = error.strerror
    failed = renameat2(directory, os.fsencode(name), new_directory, os.fsencode(new), _RENAME_NOREPLACE)
    if not failed:
        return
    if failed in (errno.EEXIST, errno.ENOENT):
        raise OSError(failed, os.strerror(failed), name, None, new)  # FileExistsError, FileNotFoundError
    if failed not in (*NO_LINKS, errno.EINVAL):
        raise OSError(failed, os.strerror(failed), new)
    why = f"no file can be finished there: link: {why_no_link}; rename without replacing: {os.strerror(failed)}"
    if failed == errno.EXDEV:
        why += "; all below the data directory must be on one mount, with the private directory"
    raise OSError(failed, why, new)


def on_other_mounts(directory: int, other: int) -> bool:
    """Whether two open directories are on different mounts, so that nothing can be moved from one to the other.

    Nothing is created or moved to find out: the kernel compares the mounts before it looks for the names.
    """
    name = os.urandom(8).hex()
    failed = renameat2(directory, name.encode(), other, name.encode(), 0)
    return failed == errno.EXDEV


def renameat2(directory: int, name: bytes, new_directory: int, new: bytes, flags: int) -> int:
    """Call renameat2(2); returns the errno, 0 if it succeeded."""
    if _libc_renameat2 is None:
        return errno.ENOSYS
    return ctypes.get_errno() if _libc_renameat2(directory, name, new_directory, new, flags) else 0


_libc_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # since glibc 2.28; not in every musl
if _libc_renameat2 is not None:
    _libc_renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
