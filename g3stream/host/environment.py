"""The process environment: the host's name, its clock, and the limits of threads and open files."""

import resource
import socket
import threading
import time

_MIN_OPEN_FILES = 64
"""The least limit of open files: a program with a few streams and three brokers has about 30 open."""


def host_name() -> str:
    """Return this host's name in printable ASCII, whatever bytes it has: it goes to Kafka, into files and the log."""
    name = socket.gethostname()
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name) or "unnamed"


def now_ms() -> int:
    """Return the time by this host's clock, ms since the epoch."""
    return time.time_ns() // 1_000_000


def threads_allowed(count: int) -> bool:
    """Return whether `count` more threads may be started now.

    If not (pids.max of a container, ulimit -u), librdkafka would end the process without a message: with SIGSEGV, or
    by an assertion.
    """
    over = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=over.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:
        return False
    finally:
        over.set()
        for thread in started:
            thread.join()
    return True


def insufficient_resources(threads: int) -> str | None:
    """Return why a program that needs so many threads can't start; None if it can."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _MIN_OPEN_FILES:
        return f"fewer than {_MIN_OPEN_FILES} files may be open; allow more: ulimit -n, LimitNOFILE of the service"
    if not threads_allowed(threads):
        return f"{threads} threads can't be started; allow more: pids.max of the container or service, ulimit -u"
    return None
