"""What the environment gives, checked: a host's name need not be text, and threads or open files may be too few."""

import resource
import socket
import threading

_MIN_OPEN_FILES = 64
"""That may be open, of a program with a few streams: it has 30 or so, with three brokers."""


def host_name() -> str:
    """This host's name in printable ASCII, whatever bytes it is made of: it goes to Kafka, into files and the log."""
    name = socket.gethostname()
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name) or "unnamed"


def threads_allowed(count: int) -> bool:
    """Whether so many more threads may be started now.

    Where they may not (pids.max of a container, ulimit -u), librdkafka ends the process without a word: with SIGSEGV,
    or by an assertion.
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
    """Why a program that needs so many threads can't begin; None if it can."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _MIN_OPEN_FILES:
        return f"fewer than {_MIN_OPEN_FILES} files may be open; allow more: ulimit -n, LimitNOFILE of the service"
    if not threads_allowed(threads):
        return f"{threads} threads can't be started; allow more: pids.max of the container or service, ulimit -u"
    return None
