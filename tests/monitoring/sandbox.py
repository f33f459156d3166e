"""Run a command under the restrictions of one of our systemd units, where no systemd runs.

    python sandbox.py UNIT WRITABLE COMMAND …

UNIT: the unit's file; WRITABLE: the one directory in which the command may write. It applies the system call filter,
the address families, no executable memory mappings, a read-only file system, and no capabilities, by the same kernel
interfaces as systemd. It needs root; errors name what else is missing.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_MDWE = 24, 38, 65
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_EPERM, _EAFNOSUPPORT = 1, 97
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_EQUAL = 4
_FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}

_libc = ctypes.CDLL(None, use_errno=True)


class _Comparison(ctypes.Structure):
    """libseccomp's struct: a comparison of a system call's argument number `arg` with `datum`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def settings(unit: Path) -> dict[str, list[str]]:
    """Return the settings in the unit's file, by name, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def _mount(target: str, flags: int, source: str = "none") -> None:
    result = _libc.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None)
    _done(result, f"mount {target}")


def _done(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _system_calls(group: str) -> set[str]:
    """Return the system calls of a systemd group such as @system-service."""
    program = shutil.which("systemd-analyze")
    assert program, "no systemd-analyze"
    listed = subprocess.run(
        [program, "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    found = set()
    for name in map(str.strip, listed.stdout.splitlines()[1:]):
        if name.startswith("@"):
            found |= _system_calls(name)
        elif name and not name.startswith("#"):
            found.add(name)
    return found


def _filter(lines: list[str], families: set[int]) -> None:
    allowed: set[str] = set()
    for line in lines:
        for group in line.lstrip("~").split():
            if line.startswith("~"):
                allowed -= _system_calls(group)
            else:
                allowed |= _system_calls(group)
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ERRNO | _EPERM)))
    for name in allowed - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # this machine's kernel has it
            seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(_ALLOW), number, 0, None)
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in range(64):
        action = _ALLOW if family in families else _ERRNO | _EAFNOSUPPORT
        rule = _Comparison(0, _EQUAL, family, 0)
        seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, 1, ctypes.byref(rule))
    _done(seccomp.seccomp_load(context), "seccomp_load")


def main(unit: Path, writable: str, command: list[str]) -> None:
    """Replace this process by the restricted command. Raises OSError."""
    configured = settings(unit)
    _done(_libc.unshare(_CLONE_NEWNS), "unshare")
    _mount("/", _MS_REC | _MS_PRIVATE)
    _mount(writable, _MS_BIND, writable)
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        place = line.split()[4]
        if place != writable and not place.startswith(("/proc", "/sys", "/dev")):
            _mount(place, _MS_REMOUNT | _MS_BIND | _MS_RDONLY)
    assert configured["CapabilityBoundingSet"] == [""]
    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        _done(_libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl")
    _done(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    assert configured["MemoryDenyWriteExecute"] == ["yes"]
    _libc.prctl(_PR_SET_MDWE, 1, 0, 0, 0)  # kernels before 6.3 can't
    _filter(
        configured["SystemCallFilter"], {_FAMILIES[name] for name in configured["RestrictAddressFamilies"][0].split()}
    )
    os.execvp(command[0], command)  # noqa: S606 - that is what this is for


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
