"""The end of a service: at once, however long librdkafka would wait for a resolver that doesn't answer.

A client that is given up waits for the threads of its brokers, and one of these may be in getaddrinfo(3): 10 s with
one dead name server, longer with two. The interpreter gives all clients up when it ends: after "stopped" was logged,
that took 10 to 20 s, and docker kills after 10. By then all is durable: the spool, or the partials, are synced and
closed, what could be committed is, and locks are the kernel's to release. So those threads have nothing left to do.
"""

import logging
import os
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End with that exit code, once the log is written, as far as whoever reads it does (log_writer.py)."""
    logging.shutdown()
    os._exit(code)
