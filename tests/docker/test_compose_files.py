"""The compose files, the Dockerfile and .env say what they should, and agree; no container is started."""

import json
import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.docker.containers import COMPOSE, PRODUCTION, ROOT, missing_compose, run

pytestmark = pytest.mark.skipif(missing_compose() is not None, reason=str(missing_compose()))

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_VERSION = re.findall(r"^RECORDER_VERSION=(.+)$", (ROOT / "compose" / ".env").read_text(), re.MULTILINE)[0]
OURS = f"g3-recorder:{_VERSION}"
_BOTH = (COMPOSE, PRODUCTION)


def config(*profiles: str, production: bool = False) -> dict[str, Any]:
    """The whole configuration, as `docker compose` understands it; fails if it warns of anything."""
    files = [part for file in (_BOTH if production else _BOTH[:1]) for part in ("-f", str(file))]
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    done = run("docker", "compose", *files, *chosen, "config", "--format", "json")
    assert not done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


RECORDING = {"archiver", "data-dir", "ingest-crate1slot2", "ingest-crate1slot3", "kafka", "web"}
SIMULATORS = {f"simulator-crate1slot{slot}" for slot in (2, 3)}
AGENTS = {"crossbar", "smurf-ingest-crate1slot4", "smurf-archiver", "simulator-crate1slot4"}


@pytest.mark.parametrize(
    ("profiles", "production", "services"),
    [
        ((), False, RECORDING),
        (("sim",), False, RECORDING | SIMULATORS),
        (("monitoring",), False, RECORDING | {"prometheus", "grafana"}),
        (("ocs",), False, RECORDING | AGENTS),
        ((), True, RECORDING | {"kafka2", "kafka3"}),
        (("sim", "monitoring"), True, RECORDING | SIMULATORS | {"kafka2", "kafka3", "prometheus", "grafana"}),
    ],
)
def test_the_services_of_each_profile(profiles: tuple[str, ...], production: bool, services: set[str]) -> None:
    assert config(*profiles, production=production)["services"].keys() == services


@pytest.mark.parametrize("profiles", [("sim",), ("ocs",), ("sim", "ocs")])
def test_no_simulator_runs_that_nobody_reads(profiles: tuple[str, ...]) -> None:
    services = config(*profiles)["services"]
    agents = (ROOT / "compose" / "ocs" / "default.yaml").read_text() if "ocs" in profiles else ""
    readers = " ".join(str(service["command"]) for service in services.values() if service.get("command")) + agents
    assert [name for name in services if name.startswith("simulator-") and name not in readers] == []


def test_no_registry_is_asked_for_the_image_that_is_built_here() -> None:
    """Docker reports an error for each service otherwise, at the first `up`, with and without --build."""
    for name, service in config("*", production=True)["services"].items():
        ours = service["image"] == OURS
        assert service.get("pull_policy") == ("never" if ours else None), name


def test_every_image_has_a_fixed_version() -> None:
    images = {service["image"] for service in config("*", production=True)["services"].values()}
    images |= set(re.findall(r"^FROM (\S+)", (ROOT / "compose" / "Dockerfile").read_text(), re.MULTILINE)) - {
        "dependencies"  # a stage
    }
    assert len(images) == 6
    assert not [image for image in images if not re.fullmatch(r"[a-z0-9/.-]+:v?\d+\.\d+[a-z0-9.-]*", image)]
    assert OURS in images


def test_what_the_image_installs_is_what_the_project_asks_for() -> None:
    lines = (ROOT / "compose" / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for text in [
        *PROJECT["dependencies"],
        *PROJECT["optional-dependencies"]["spt3g"],
        *PROJECT["optional-dependencies"]["ocs"],
        *PROJECT["optional-dependencies"]["web"],
    ]:
        wanted = Requirement(text)
        pinned = pins.get(canonicalize_name(wanted.name))
        assert pinned, f"{wanted}: run `python compose/pin_requirements.py > compose/requirements.txt`"
        assert Version(pinned) in wanted.specifier, f"{wanted}, but {pinned} is pinned"


def test_env_names_every_setting_and_no_other() -> None:
    used = set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE.read_text() + PRODUCTION.read_text()))
    given = re.findall(r"^([A-Z0-9_]+)=.", (ROOT / "compose" / ".env").read_text(), re.MULTILINE)
    assert sorted(used) == sorted(given)


def test_nobody_else_reaches_it_by_default() -> None:
    services = config("*", production=True)["services"].values()
    ports = [port for service in services for port in service.get("ports", ())]
    assert len(ports) == 7
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_every_container_is_restarted_and_its_log_bounded() -> None:
    for name, service in config("*", production=True)["services"].items():
        assert service["restart"] == ("no" if name == "data-dir" else "unless-stopped"), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges"]), name


def test_nothing_needs_the_page_and_it_reaches_no_file_of_the_archive() -> None:
    services = config("*", production=True)["services"]
    assert [name for name, service in services.items() if "web" in service.get("depends_on", {})] == []
    web = services["web"]
    assert {mount["target"] for mount in web["volumes"]} == {"/catalog"}
    assert {needed["condition"] for needed in web["depends_on"].values()} == {"service_started"}
    assert web["read_only"]


def test_in_production_three_brokers_keep_everything_and_nothing_takes_the_whole_host() -> None:
    services = config(production=True)["services"]
    brokers = [service for name, service in services.items() if name.startswith("kafka")]
    assert len({json.dumps(broker["volumes"]) for broker in brokers}) == 3
    assert len({broker["environment"]["KAFKA_NODE_ID"] for broker in brokers}) == 3
    for broker in brokers:
        settings = broker["environment"]
        assert settings["KAFKA_DEFAULT_REPLICATION_FACTOR"] == "3"
        assert settings["KAFKA_MIN_INSYNC_REPLICAS"] == "2"
        assert settings["KAFKA_LOG_RETENTION_MS"] == "-1"
        assert int(settings["KAFKA_LOG_RETENTION_BYTES"]) > 0
    for name in services.keys() - {"data-dir"}:
        assert {"mem_limit", "cpus", "pids_limit"} <= services[name].keys(), name


def test_all_that_is_mounted_is_there_and_prometheus_knows_every_service() -> None:
    services = config("*")["services"]
    here = {mount["source"] for service in services.values() for mount in service.get("volumes", ())} - {
        str(ROOT / "data")
    }
    missing = [source for source in here if source.startswith("/") and not (ROOT / source).exists()]
    assert not missing
    scraped = set(re.findall(r"[\w-]+:910[12]", (ROOT / "compose" / "monitoring" / "prometheus.yml").read_text()))
    ports = {name: service.get("environment", {}) for name, service in services.items()}
    serving = {
        f"{name}:{address.rpartition(':')[2]}"
        for name, environment in ports.items()
        for variable in ("INGEST_HTTP", "ARCHIVER_HTTP")
        if (address := environment.get(variable))
    }
    assert scraped == serving
