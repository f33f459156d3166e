"""Fixtures for all tests: the run's Kafka broker, a stream name, a recorder, random numbers, OCS agents."""

import errno
import os
import random
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from testbed.child_process import HOST, free_port
from testbed.crossbar import Crossbar, executable
from testbed.kafka.broker import Broker
from testbed.kafka.distribution import KAFKA_VERSION
from testbed.server import ServerError
from testbed.sotodlib_venv import SOTODLIB
from testbed.venv import IndexUnreachable
from tests.sotodlib.analysis import Analysis
from tests.support.injection.proxy import FAR_MS, Proxy
from tests.support.processes import Recorder
from tests.support.runs_broker import Found, NoBrokerError, RunsBroker, ask

if TYPE_CHECKING:
    from tests.ocs.agents import Observatory  # which needs the package ocs: tests without OCS run without

_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
_IN_CONTAINER, _FAR_IN_CONTAINER = 9092, 9094
_TESTS = Path(__file__).parent
_WITH_OTHER_SOFTWARE = frozenset({"docker", "monitoring", "ocs", "sotodlib", "web"})
_BROKER = pytest.StashKey[RunsBroker]()
_ADDRESS = pytest.StashKey[str]()
"""The address at which other processes of the run get the broker."""


def pytest_configure(config: pytest.Config) -> None:
    """Prepare what a run's processes share, in the first one; in each, tests have no time limit."""
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")
    if not hasattr(config, "workerinput"):
        config.stash[_BROKER] = RunsBroker(_broker)
        # pytest-xdist needs the same tests in all processes, and the seed selects some of them.
        os.environ.setdefault("FAULTS_SEED", str(secrets.randbelow(1 << 32)))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that runs a part of the tests."""
    parser.addoption("--part", default="1/1", metavar="K/N", help="only each N-th file of tests, from the K-th on")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark as slow what needs other software: in an environment, an image or a browser. Keep this run's part."""
    for item in items:
        if item.path.relative_to(_TESTS).parts[0] in _WITH_OTHER_SOFTWARE:
            item.add_marker(pytest.mark.slow)
    number, parts = map(int, config.getoption("--part").split("/"))
    files = dict.fromkeys(item.path for item in items)
    mine = {path for index, path in enumerate(files) if index % parts == number - 1}
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give another process, which pytest-xdist is about to start, the broker's address."""
    config: pytest.Config = node.config
    if _ADDRESS not in config.stash:
        config.stash[_ADDRESS] = config.stash[_BROKER].listen()
    node.workerinput["broker"] = config.stash[_ADDRESS]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the broker at the end of the run."""
    if broker := config.stash.get(_BROKER, None):
        broker.close()


@pytest.fixture(scope="module")
def kafka(request: pytest.FixtureRequest, runs_kafka: Found) -> str:
    """The `bootstrap.servers` of the run's one broker; a test that kills brokers starts its own `Broker`.

    For tests of faults it has a delay of some ms, as at sites, where the broker isn't on the loopback.
    """
    return runs_kafka.far if "faults" in request.path.relative_to(_TESTS).parts else runs_kafka.servers


@pytest.fixture(scope="session")
def runs_kafka(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """The run's one broker, which the run's last lines name.

    It is KAFKA_BOOTSTRAP_SERVERS if set, else one in Docker if a daemon answers, else the embedded one.
    """
    directory = tmp_path_factory.mktemp("kafka")
    try:
        if broker := pytestconfig.stash.get(_BROKER, None):
            return broker.get(directory)
        return ask(pytestconfig.workerinput["broker"], directory)  # type: ignore[attr-defined]  # xdist's
    except NoBrokerError as why:
        pytest.fail(str(why), pytrace=False)


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> str:
    """A stream name that nothing else uses; printed, so that a failure's topics can be found."""
    base = re.sub("[^A-Za-z0-9]+", "-", request.node.name.removeprefix("test_")).strip("-")[:50]
    name = f"{base or 'test'}-{secrets.token_hex(4)}"
    print(f"stream {name}")
    return name


@pytest.fixture
def recorder(kafka: str, stream: str, tmp_path: Path) -> Iterator[Recorder]:
    """A recorder of that stream on that broker, in the test's directory; its programs are killed at the end."""
    with Recorder(kafka, stream, tmp_path) as started:
        yield started


@pytest.fixture
def dice() -> random.Random:
    """Reproducible random numbers: the run's seed FAULTS_SEED is printed."""
    seed = int(os.environ["FAULTS_SEED"])
    print(f"FAULTS_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=["hard links", "no hard links", "hard links within a directory only"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hard links of this test's file system: as in ext4; exFAT; BeeGFS."""
    link = os.link

    def refused(src: str, dst: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool) -> None:
        if request.param == "no hard links":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if not os.path.sameopenfile(src_dir_fd, dst_dir_fd):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    if request.param != "hard links":
        monkeypatch.setattr(os, "link", refused)
    support: str = request.param
    return support


@pytest.fixture(scope="session")
def crossbar_program() -> Path:
    """The crossbar that the OCS agents' tests use; installed once, which takes minutes."""
    try:
        return executable()
    except ServerError as why:
        pytest.skip(f"no crossbar: {why}")


@pytest.fixture(scope="session")
def analysis(so3g_python: Path) -> Analysis:
    """Simons Observatory's software, in an environment of its own."""
    return Analysis(so3g_python)


@pytest.fixture(scope="session")
def so3g_python() -> Path:
    """The interpreter of that environment, which has so3g; installed once, which takes minutes."""
    try:
        return SOTODLIB.python()
    except IndexUnreachable as why:
        pytest.skip(f"no sotodlib: {why}")


@pytest.fixture(scope="session")
def router(crossbar_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crossbar]:
    """A crossbar router for the whole run, for tests that don't stop it."""
    assert crossbar_program
    with Crossbar(tmp_path_factory.mktemp("crossbar")) as crossbar:
        yield crossbar


@pytest.fixture
def observatory(
    router: Crossbar, kafka: str, stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[Observatory]":
    """A site of OCS agents on that router, which are stopped at the end of the test."""
    from tests.ocs.agents import Observatory

    if not entry_points(group="ocs.plugins", name="g3-recorder"):
        pytest.fail("this environment lacks the OCS plugin: pip install --editable .", pytrace=False)
    with Observatory(router, kafka, stream, tmp_path) as site:
        monkeypatch.setenv("OCS_CONFIG_DIR", str(site.config))
        yield site


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print which broker the run used."""
    if found := config.stash[_BROKER].found:
        terminalreporter.write_line(f"Kafka: {found.servers}, {found.which}")


@contextmanager
def _broker(directory: Path) -> Iterator[Found]:
    with ExitStack() as stack:
        if given := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            _await_broker(given, 10)
            yield Found(given, given, "given in KAFKA_BOOTSTRAP_SERVERS")
            return
        port, far_port = free_port(), free_port()
        proxy = stack.enter_context(Proxy(far_port, delay_ms=FAR_MS))
        try:
            stack.enter_context(_docker_broker(port, far_port, proxy.port))
            which = f"{_IMAGE} in Docker"
        except _NoDockerError as reason:
            properties = {
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,FAR:PLAINTEXT",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{port},FAR://{HOST}:{proxy.port}",
            }
            stack.enter_context(Broker(directory, port, properties, {"FAR": far_port}))
            which = f"embedded {KAFKA_VERSION} ({reason})"
        yield Found(f"{HOST}:{port}", proxy.servers, which)


class _NoDockerError(Exception):
    """Docker can't run the broker; the message says why."""


@contextmanager
def _docker_broker(port: int, far_port: int, proxy_port: int) -> Iterator[None]:
    """Run a broker in Docker on `port` of this host, and on `far_port` for the proxy on `proxy_port`."""
    # testcontainers reads this when imported. Its clean-up sidecar needs an image of its own, and isn't needed here.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    # Found at run time only: for mypy `docker` is the directory tests/docker.
    docker, docker_errors = import_module("docker"), import_module("docker.errors")
    from testcontainers.core.container import DockerContainer

    try:
        client = docker.from_env(timeout=5)
        client.ping()
    except (docker_errors.DockerException, OSError):
        # requests' errors, which docker lets through, are OSErrors.
        raise _NoDockerError("no Docker daemon answers") from None
    try:
        client.images.get(_IMAGE)
    except docker_errors.DockerException:
        try:
            client.images.pull(_IMAGE)
        except (docker_errors.DockerException, OSError):
            raise _NoDockerError(f"Docker has no {_IMAGE}, and can't pull it") from None
    finally:
        client.close()

    # testcontainers' own KafkaContainer runs scripts that only Confluent's images have. The broker needs
    # the address for its clients before it starts, so Docker can't choose the port.
    listeners = (
        f"PLAINTEXT://0.0.0.0:{_IN_CONTAINER}",
        f"FAR://0.0.0.0:{_FAR_IN_CONTAINER}",
        "CONTROLLER://0.0.0.0:9093",
    )
    container = (
        DockerContainer(_IMAGE)
        .with_bind_ports(_IN_CONTAINER, port)
        .with_bind_ports(_FAR_IN_CONTAINER, far_port)
        .with_env("KAFKA_NODE_ID", "1")
        .with_env("KAFKA_PROCESS_ROLES", "broker,controller")
        .with_env("KAFKA_LISTENERS", ",".join(listeners))
        .with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://{HOST}:{port},FAR://{HOST}:{proxy_port}")
        .with_env("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER")
        .with_env("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT")
        .with_env("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:9093")
        # Everything else is Kafka's default, `auto.create.topics.enable` too; see testbed/kafka/broker.py.
        .with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        .with_env("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "1")
        .with_env("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1")
        .with_env("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1")
        .with_env("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1")
    )
    with container:
        _await_broker(f"{HOST}:{port}", 60)
        yield


def _await_broker(servers: str, seconds: float) -> None:
    """Wait until a broker answers. Raises NoBrokerError after `seconds`."""
    try:
        AdminClient({"bootstrap.servers": servers, "log_level": 0}).list_topics(timeout=seconds)
    except KafkaException as error:
        raise NoBrokerError(f"no Kafka broker answers at {servers}: {error}") from error
