"""A network of its own, with nothing but the loopback: any port is free, and nothing else is reached."""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP, _IFF_RUNNING = 0x1, 0x40
_PATH = "/proc/thread-self/ns/net"


class NoNetworkError(Exception):
    """This user may make none."""


@contextmanager
def private_network() -> Iterator[None]:
    """In the block this thread, what it starts, and the threads that it starts are in a network of their own.

    What is connected before stays connected. Raises NoNetworkError.
    """
    # os.unshare and os.setns exist from Python 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    outside = os.open(_PATH, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(_CLONE_NEWNET):
            raise NoNetworkError(f"a network namespace can't be made: {errno.errorcode[ctypes.get_errno()]}; be root")
        try:
            with socket.socket() as any_socket:
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH", b"lo", _IFF_UP | _IFF_RUNNING))
            yield
        finally:
            if libc.setns(outside, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "can't return to the network of before")
    finally:
        os.close(outside)
