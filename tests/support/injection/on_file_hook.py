"""A command for `--on-file`: python on_file_hook.py DIRECTORY.

Logs the begin and end of each run in DIRECTORY/runs, as lines of JSON, and does what files there say: `fail` (exit
code 3), `hang` (for ever, ignoring SIGTERM), `kill` (SIGKILL to the archiver at the end), `slow` (wait for the number
of seconds in it).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

directory = Path(sys.argv[1])


def log_step(what: str, **more: object) -> None:
    line = json.dumps({"what": what, "pid": os.getpid(), "archiver": os.getppid(), **more})
    fd = os.open(directory / "runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, line.encode() + b"\n")
    os.close(fd)


variables = {name: value for name, value in os.environ.items() if name.startswith("G3_")}
log_step("begin", event=json.loads(sys.stdin.read()), env=variables)
print(f"looking at\n{os.environ['G3_KEY']} \x1b[31m", flush=True)
if (directory / "hang").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_step("hangs")
    while True:
        time.sleep(60)
if (directory / "slow").exists():
    time.sleep(float((directory / "slow").read_text()))
if (directory / "fail").exists():
    print("the other side is full", file=sys.stderr)
    sys.exit(3)
log_step("end")
if (directory / "kill").exists():
    (directory / "kill").unlink()
    os.kill(os.getppid(), signal.SIGKILL)
