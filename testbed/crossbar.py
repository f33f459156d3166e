"""A real crossbar router for the demo and the tests of the OCS agents, and an OCS site file that uses it.

Crossbar is large (377 MB) and conflicts with many packages, so it has its own virtual environment. It is made once,
in the user's cache, from the package index that pip is configured for.

    with Crossbar(Path("/tmp/crossbar")) as crossbar:
        crossbar.write_site(Path("/tmp/ocs"), [{"agent-class": …, "instance-id": …, "arguments": […]}])
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from testbed.child_process import HOST, free_port, is_free
from testbed.server import Server, ServerError

REALM = "test_realm"
ROOT = "observatory"
_ROLE = "iocs_agent"
_BOOT_SECONDS = 60.0
"""It boots within 5 s, or within 22 s with 11 other processes on 2 cores."""
_FREE_PORT_SECONDS = 10.0


class Crossbar(Server):
    """One router with its own directory, which can be stopped, killed, and started again on the same port.

    Raises ServerError.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__("crossbar", directory.absolute() / "crossbar.log")
        self.port = free_port()
        self._directory = directory.absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "config.json").write_text(json.dumps(_config(self.port)))

    def start(self) -> None:
        """Start it and return when clients can join. Raises ServerError if it ends, or takes too long."""
        command = [str(executable()), "start", "--cbdir", str(self._directory), "--loglevel", "info"]
        # The port is open before the realm exists; this line is logged when both are ready.
        self._start_process(command, lambda: self._has_logged("NODE_BOOT_COMPLETE"), _BOOT_SECONDS, _environment())

    def kill(self) -> None:
        """Kill it (SIGKILL). Its worker, which holds the port, ends with it."""
        super().kill()
        deadline = time.monotonic() + _FREE_PORT_SECONDS
        while not is_free(self.port) and time.monotonic() < deadline:
            time.sleep(0.02)

    def write_site(self, directory: Path, agents: Sequence[Mapping[str, Any]]) -> Path:
        """Write OCS's site file for this host with these agents: default.yaml in the directory (OCS_CONFIG_DIR).

        Returns its path.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "default.yaml"
        site = {
            "hub": {
                "wamp_server": f"ws://{HOST}:{self.port}/ws",
                "wamp_http": f"http://{HOST}:{self.port}/call",
                "wamp_realm": REALM,
                "address_root": ROOT,
            },
            "hosts": {"localhost": {"agent-instances": list(agents)}},
        }
        path.write_text(json.dumps(site, indent=1))  # JSON is valid YAML
        return path


def executable() -> Path:
    """Return the path of the crossbar program, installing it first if it is missing. Raises ServerError.

    It is in `$XDG_CACHE_HOME/g3-recorder/crossbar-venv` (`~/.cache`). An installation is reported on stderr.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "g3-recorder"
    home = cache / "crossbar-venv"
    program = home / "bin" / "crossbar"
    if (home / "ready").exists():
        return program
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "crossbar-venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be installing it
        if not (home / "ready").exists():
            _install(home)
    return program


def _install(home: Path) -> None:
    console = Console(stderr=True, highlight=False)
    console.print("Installing crossbar into its own environment, once (377 MB, two minutes)", soft_wrap=True)
    shutil.rmtree(home, ignore_errors=True)
    try:
        venv.create(home, with_pip=True)
        with tempfile.TemporaryFile("w+") as file:
            done = subprocess.run(
                [home / "bin" / "python", "-m", "pip", "install", "--quiet", "crossbar"],
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            file.seek(0)
            output = file.read()
    except (OSError, subprocess.CalledProcessError) as error:
        raise ServerError(f"can't make a virtual environment for crossbar: {error}") from error
    if done.returncode:
        raise ServerError(f"crossbar can't be installed with Python {sys.version.split()[0]}: {output[-1000:]}")
    (home / "ready").touch()


def _environment() -> Mapping[str, str]:
    """This process's environment and PYTHONUNBUFFERED, so that each line is written to the log at once.

    Crossbar (26.10.1) doesn't flush its standard output, which Python writes to a file 8 KB at a time. The line with
    NODE_BOOT_COMPLETE is 13 to 17 KB from the start and nearly the last. So it stayed in the buffer, long after the
    router had booted, until about 3 clients had joined and their lines filled the buffer. On a bare Debian 12 without
    the variable 62 of 62 routers answered calls, and none had that line in its log; with it, 100 of 100 had. Many
    machines and images set it globally and don't have the problem. Crossbar's issue 506 (closed) has this solution.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LOGLEVEL")}
    return {**inherited, "PYTHONUNBUFFERED": "1"}


def _config(port: int) -> Mapping[str, Any]:
    everything = {"call": True, "register": True, "publish": True, "subscribe": True}
    permissions = [{"uri": "", "match": "prefix", "allow": everything}]
    return {
        "version": 2,
        "workers": [
            {
                "type": "router",
                "realms": [{"name": REALM, "roles": [{"name": _ROLE, "permissions": permissions}]}],
                "transports": [
                    {
                        "type": "web",
                        "endpoint": {"type": "tcp", "port": port, "interface": HOST},
                        "paths": {
                            "/": {"type": "json", "value": {}},
                            "ws": {"type": "websocket", "auth": {"anonymous": {"type": "static", "role": _ROLE}}},
                            "call": {"type": "caller", "realm": REALM, "role": _ROLE, "options": {}},
                        },
                    }
                ],
            }
        ],
    }
