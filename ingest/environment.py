"""What the environment gives, checked: a host's name need not be text, and threads may not be allowed."""

import socket
import threading


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


def threads_refused(count: int) -> str:
    """What to say if they may not."""
    return f"{count} threads can't be started; allow more: pids.max of the container or service, ulimit -u"
