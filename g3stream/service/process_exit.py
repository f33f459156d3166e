"""The end of a service's process: at once, without waiting for librdkafka's threads.

A client that is destroyed waits for the threads of its brokers, and one of these may be in getaddrinfo(3): 10 s with
one dead name server, longer with two. The interpreter destroys all clients when it ends: after "stopped" was logged,
that took 10 to 20 s, and docker kills after 10. By then all is durable: the spool, or the partials, are synced and
closed, what could be committed is committed, and the kernel releases the locks. So those threads have nothing to do.
"""

import logging
import os
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End the process with an exit code, after the log is written as far as its reader reads (log/writer.py)."""
    logging.shutdown()
    os._exit(code)
