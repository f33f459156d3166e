"""A site of OCS agents, as an operator has it: a site file, agents started by ocs-agent-cli, and OCSClient."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ocs = pytest.importorskip("ocs", reason="the package ocs isn't installed: pip install '.[ocs]'")

from ocs.client_http import ControlClient  # noqa: E402  # after the skip
from ocs.ocs_client import OCSClient  # noqa: E402

from testbed.child_process import start_child_process  # noqa: E402
from testbed.crossbar import ROOT, Crossbar  # noqa: E402
from tests.support.processes import SECONDS, Program, Recorder, eventually, numbers  # noqa: E402


class Observatory(Recorder):
    """The site. Its agents' archive is the group `<stream>.archive`, and the data dir archive/ of its directory."""

    def __init__(self, crossbar: Crossbar, servers: str, stream: str, directory: Path) -> None:
        super().__init__(servers, stream, directory)
        self.crossbar = crossbar
        self.config = directory / "ocs"
        self._blocks: list[dict[str, Any]] = []

    @property
    def group(self) -> list[str]:
        """The option that says it."""
        return ["--group", f"{self.stream}.archive"]

    def block(self, block: dict[str, Any]) -> None:
        """Add an agent's block to the site file."""
        self._blocks.append(block)
        self.crossbar.write_site(self.config, self._blocks)

    def recorder(self, port: int, *arguments: Any, how: Sequence[str] = ()) -> Program:
        """Add a SmurfRecorder `recorder` of the stream, and start it. how: further arguments of ocs-agent-cli."""
        self.block(
            {
                "agent-class": "SmurfRecorder",
                "instance-id": "recorder",
                "arguments": [
                    ["--auto-start", True],
                    ["--data-dir", str(self.data())],
                    ["--port", port],
                    ["--address", "127.0.0.1"],
                    ["--stream-id", self.stream],
                    ["--timeout", SECONDS],
                    self.group,
                    *arguments,
                ],
            }
        )
        return self.agent("recorder", *how)

    def agent(self, instance_id: str, *arguments: str) -> Program:
        """Start an agent of the site file."""
        return self.start("ocs.agent_cli", "--instance-id", instance_id, *arguments)

    def client(self, instance_id: str) -> Any:
        """A client of an agent, once that has joined."""
        found: list[Any] = []

        def joined() -> bool:
            try:
                found.append(OCSClient(instance_id, args=["--site-file", str(self.config / "default.yaml")]))
            except RuntimeError:
                return False
            return True

        eventually(joined, f"{instance_id} has joined")
        return found[0]

    def recorded(self) -> list[int]:
        """The frame_num of each frame in the archive's files, in their order."""
        return [n for path in self.files() for n in numbers(path.read_bytes(), self.directory / "scratch.g3")]

    @contextmanager
    def listening(self, instance_id: str) -> Iterator["Feeds"]:
        """What is published on an agent's feeds meanwhile."""
        feeds = Feeds(f"{ROOT}.{instance_id}.feeds.", self.config)
        try:
            yield feeds
        finally:
            feeds.close()


class Feeds:
    """A running `ocs-client-cli listen`. selector: of feeds, as that takes it. config: where the site file is."""

    def __init__(self, selector: str, config: Path) -> None:
        self.heard: list[tuple[str, Any]] = []
        """Feeds, by their last names, and messages."""
        self._more = threading.Condition()
        self._process = start_child_process(
            [
                # It flushes nothing that it prints: a pipe would get 8 KB at a time, and the last messages never.
                *(sys.executable, "-u", "-c", "from ocs.client_cli import main; main()"),
                *("listen", "--json", selector),
            ],
            stdout=subprocess.PIPE,
            env={**os.environ, "OCS_CONFIG_DIR": str(config)},
        )
        threading.Thread(target=self._read, daemon=True).start()
        site = json.loads((config / "default.yaml").read_text())["hub"]
        router = ControlClient("", url=site["wamp_http"], realm=site["wamp_realm"])
        look_up = "wamp.subscription.lookup", selector, {"match": "wildcard"}
        eventually(lambda: router.call(*look_up) is not None, "it has subscribed")

    def await_message(self, feed: str, what: Callable[[Any], bool] = lambda _: True) -> Any:
        """The first message on that feed for which that holds; fails if there is none in time."""

        def found() -> Sequence[Any]:
            return [message for name, message in self.heard if name == feed and what(message)]

        with self._more:
            assert self._more.wait_for(found, SECONDS), f"not heard on {feed}; heard: {self.heard}"
        return found()[0]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith(b'{"topic"'):
                    said = json.loads(line)
                    with self._more:
                        self.heard.append((said["topic"].rpartition(".")[2], said["message"][0]))
                        self._more.notify_all()


def data(process: Any) -> Any:
    """session.data of an OCS process now."""
    return process.status().session["data"]


def process_of(client: Any) -> int:
    """The process id of the process for OCS of a client's agent."""
    return int(client._api["instance_pid"])  # noqa: SLF001 - OCS says it nowhere else
