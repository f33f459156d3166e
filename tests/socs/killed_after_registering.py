"""`archiver`, killed (SIGKILL) once the row of the n-th file is in the database and nothing has been reported yet.

python tests/socs/killed_after_registering.py N -- --data-dir …
"""

import os
import signal
import sys
from pathlib import Path

from archiver.__main__ import main
from archiver.suprsync import database

_left = int(sys.argv[1])
_add = database.SupRsyncDatabase.add


def _add_and_die(
    self: database.SupRsyncDatabase,
    local_path: Path,
    remote_path: str,
    md5: str,
    timestamp: float,
    look: database.Registration,
) -> str | None:
    global _left
    found = _add(self, local_path, remote_path, md5, timestamp, look)
    _left -= 1
    if _left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return found


database.SupRsyncDatabase.add = _add_and_die  # type: ignore[method-assign]  # the product has no hook for this
sys.exit(main(sys.argv[3:]))
