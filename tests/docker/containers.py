"""The recorder in containers, as an operator runs it, in a separate compose project."""

import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from testbed.child_process import free_port
from testbed.demo.comparison import FrameId, Sent

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "compose" / "compose.yaml"
PRODUCTION = ROOT / "compose" / "compose.production.yaml"
BROKER = "KAFKA_BROKER_SESSION_TIMEOUT_MS: 2000"
"""For a broker's environment: it may register again sooner after it was killed (by default after 9 s)."""
IMAGE = "g3-recorder:test"
"""The image that the tests build; it is kept, with its cache, for their next run."""
SECONDS = 90.0
"""Timeout for what takes a few seconds on an idle machine."""
_SESSION = re.compile(r"session (\d+): frames 0 to (\d+)")


def docker(*arguments: str, seconds: float = SECONDS) -> str:
    """Run `docker` with these arguments. Returns its output; fails if it fails."""
    return run("docker", *arguments, seconds=seconds).stdout


def run(
    *command: str, seconds: float = SECONDS, check: bool = True, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end; its stderr is shown if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env, check=False)
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


@cache
def missing_compose() -> str | None:
    """Return why `docker compose` can't be used here; None if it can."""
    try:
        found = run("docker", "compose", "version", check=False).returncode == 0
    except FileNotFoundError:
        found = False
    return None if found else "there is no `docker compose` here"


@cache
def missing(*images: str) -> str | None:
    """Return why nothing can be tested in containers here; None if it can. images: those to pull if missing."""
    if why := missing_compose():
        return why
    try:
        if run("docker", "info", check=False).returncode:
            return "no Docker daemon answers"
    except subprocess.TimeoutExpired:
        return "no Docker daemon answers in time"
    for image in images:
        if run("docker", "image", "inspect", image, check=False).returncode:
            pulled = run("docker", "pull", "--quiet", image, check=False, seconds=600)
            if pulled.returncode:
                return f"Docker has no {image}, and can't pull it: {pulled.stderr.strip()[-200:]}"
    return None


def base_images() -> Sequence[str]:
    """Return the third-party images that recording needs."""
    bases = re.findall(r"^FROM (\S+:\S+)", (ROOT / "compose" / "Dockerfile").read_text(), re.MULTILINE)
    kafka = re.findall(r"image: (apache/kafka:\S+)", COMPOSE.read_text())
    return sorted({*bases, *kafka})


class Site:
    """A compose project with its own name, ports and data directory; all of it is removed at the end.

    override: YAML that overrides the compose files. files: the compose files.
    """

    def __init__(self, directory: Path, override: str = "{}", *, files: Sequence[Path] = (COMPOSE,)) -> None:
        self.name = f"g3-test-{secrets.token_hex(4)}"
        self.data = directory / "data"
        brokers = ("KAFKA_PORT", "KAFKA2_PORT", "KAFKA3_PORT")
        others = ("WEB_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "CROSSBAR_PORT")
        self.settings = {name: str(free_port()) for name in (*brokers, *others)}
        # The recorder isn't root, so its files must not be root's.
        owner = {"RECORDER_UID": str(os.getuid() or 1000), "RECORDER_GID": str(os.getgid() or 1000)}
        self.settings |= {
            "DATA_DIR": str(self.data),
            "RECORDER_IMAGE": IMAGE,
            "SPOOL_SIZE": "1GiB",
            "LOG_FORMAT": "json",
            **owner,
        }
        (directory / "override.yaml").write_text(override)
        self._files = [*files, directory / "override.yaml"]

    def compose(self, *arguments: str, seconds: float = SECONDS) -> str:
        """Run `docker compose` with these arguments. Returns its output; fails if it fails."""
        files = [part for file in self._files for part in ("-f", str(file))]
        command = ("docker", "compose", "-p", self.name, *files, *arguments)
        return run(*command, seconds=seconds, env={**os.environ, **self.settings}).stdout

    def up(self, *services: str) -> None:
        """Build the image, start these services or all, and wait until they are healthy."""
        wait = ("--detach", "--wait", "--wait-timeout", "180")
        self.compose("--profile", "sim", "up", "--build", *wait, *services, seconds=900)

    def down(self) -> None:
        """Remove everything but the image."""
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "1", seconds=180)

    def container(self, service: str) -> str:
        """Return the name of a service's container."""
        return f"{self.name}-{service}-1"

    def state(self, service: str) -> dict[str, Any]:
        """Return a container's state, as in `docker inspect`."""
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)))[0]["State"]
        return found

    def health(self, service: str) -> tuple[str, str]:
        """Return healthy, unhealthy or starting, and the output of the latest check."""
        health = self.state(service)["Health"]
        return health["Status"], health["Log"][-1]["Output"].strip() if health["Log"] else ""

    def await_health(self, service: str, status: str, pattern: str = "") -> str:
        """Wait for that status and a check whose output matches the pattern. Returns that output."""
        found = ("", "")

        def there() -> bool:
            nonlocal found
            found = self.health(service)
            return found[0] == status and re.search(pattern, found[1]) is not None

        eventually(there, lambda: f"{service} {status} with {pattern!r}; it is {found}\n{self.log(service)}")
        return found[1]

    def log(self, service: str) -> str:
        """Return a service's log."""
        return run("docker", "logs", self.container(service), check=False).stderr

    def kill(self, service: str) -> None:
        """Kill the container with `docker kill` (SIGKILL), after which Docker doesn't restart it."""
        docker("kill", self.container(service))

    def start(self, service: str) -> None:
        """Start a killed or stopped container."""
        docker("start", self.container(service))

    def crash(self, *services: str) -> None:
        """Kill containers' processes, as the kernel does when memory runs out. Skips the test if that is forbidden.

        Returns when Docker's restart policy has started them again.
        """
        before = {service: self.state(service) for service in services}
        for state in before.values():
            try:
                os.kill(state["Pid"], signal.SIGKILL)
            except (PermissionError, ProcessLookupError) as error:
                pytest.skip(f"the containers' processes aren't ours to kill: {error}")

        def again(service: str) -> bool:
            now = self.state(service)
            return bool(now["Running"] and now["StartedAt"] != before[service]["StartedAt"])

        eventually(lambda: all(map(again, services)), lambda: f"they run again: {', '.join(services)}")

    def files(self, stream: str) -> list[Path]:
        """Return a stream's finished files, in order."""
        return sorted(self.data.glob(f"*/{stream}/*.g3"))

    def sessions(self, stream: str) -> dict[int, int]:
        """Return the sessions that a stream's simulator has sent completely: their id and their last frame_num."""
        log = run("docker", "logs", self.container(f"simulator-{stream}"), check=False).stdout
        return {int(session): int(last) for session, last in _SESSION.findall(log)}

    def await_whole_session(self, stream: str) -> dict[int, int]:
        """Wait until a session that begins from now on is sent completely. Returns all complete sessions."""
        now = int(time.time())
        eventually(lambda: max(self.sessions(stream), default=0) > now, lambda: f"{stream}: a session is over")
        return self.sessions(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print(self.compose("--profile", "*", "ps", "--all"))
            print(self.compose("--profile", "*", "logs", "--tail", "60"))
        self.down()


def sent(sessions: Mapping[int, int]) -> Sent:
    """Return the frames of a simulator with --loop in these sessions: Observation, Wiring, Scans, Observation."""
    metadata = {FrameId(session, num) for session, last in sessions.items() for num in (0, 1, last)}
    scans = {FrameId(session, num) for session, last in sessions.items() for num in range(2, last)}
    return Sent(frozenset(scans), frozenset(metadata))


def eventually(condition: Callable[[], bool], what: Callable[[], str], seconds: float = SECONDS) -> None:
    """Poll a condition that has no event, as a container's state. Fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not in {seconds:g} s: {what()}")
        time.sleep(0.2)


def left_behind(name: str) -> Iterator[str]:
    """Yield all that is left of a project."""
    label = f"label=com.docker.compose.project={name}"
    for kind, listing in (
        ("container", ("ps", "--all")),
        ("volume", ("volume", "ls")),
        ("network", ("network", "ls")),
    ):
        for found in docker(*listing, "--quiet", "--filter", label).split():
            yield f"{kind} {found}"
