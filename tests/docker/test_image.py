"""The image: small, without what recording doesn't need, and not run as root."""

import json
from collections.abc import Iterator

import pytest

from tests.docker.containers import IMAGE, ROOT, base_images, docker, eventually, missing, run

pytestmark = [
    pytest.mark.skipif(missing(*base_images()) is not None, reason=str(missing(*base_images()))),
    pytest.mark.timeout(600),  # the first build installs all that the image has
]

VERSION, REVISION = "1.2.3", "0123456"
SBOM = "/opt/g3-recorder/share/g3-recorder/sbom.cdx.json"
INSTALLED = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """Built by the plain `docker build`, which may be without BuildKit."""
    dockerfile = str(ROOT / "compose" / "Dockerfile")
    says = ("--build-arg", f"VERSION={VERSION}", "--build-arg", f"REVISION={REVISION}")
    run("docker", "build", "-f", dockerfile, *says, "-t", f"{IMAGE}-plain", str(ROOT), seconds=590)
    yield f"{IMAGE}-plain"
    run("docker", "rmi", f"{IMAGE}-plain")


def test_it_is_small_and_our_code_is_its_last_layer(image: str) -> None:
    history = docker("history", "--no-trunc", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image)
    layers = [(int(size), by) for size, _, by in (line.partition(" ") for line in history.splitlines())]
    copied = [size for size, by in layers if "COPY" in by]
    assert len(copied) == 2
    ours, dependencies = copied
    assert ours < 6_000_000
    assert dependencies < 260_000_000


def test_it_runs_as_nobody_special_and_has_no_tools_to_build_with(image: str) -> None:
    found = json.loads(docker("inspect", image))[0]["Config"]
    assert found["User"] == "1000:1000"
    assert not found.get("Volumes")  # an anonymous volume would be left behind
    script = "id -u; command -v gcc cc make ld g++; find / -xdev -user 1000 -not -path '/proc/*' 2>/dev/null"
    assert docker("run", "--rm", "--network", "none", image, "sh", "-c", f"{script}; true").split() == ["1000"]
    cached = "find /root/.cache /tmp /opt -mindepth 1 -name pip -o -path /root/.cache/\\* -o -path /tmp/\\*"
    assert not docker("run", "--rm", "--user", "0", "--network", "none", image, "sh", "-c", f"{cached}; true")


@pytest.mark.parametrize("command", ["ingest", "archiver", "ocs-agent-cli", "python -m testbed.smurf"])
def test_it_has_every_command(image: str, command: str) -> None:
    help_text = docker("run", "--rm", "--network", "none", "--read-only", image, *command.split(), "--help")
    assert "usage:" in help_text


def test_it_says_what_it_is(image: str) -> None:
    labels = json.loads(docker("inspect", "--format", "{{json .Config.Labels}}", image))
    ours = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert (ours["title"], ours["version"], ours["revision"]) == ("g3-recorder", VERSION, REVISION)
    assert ours["licenses"] == "BSD-2-Clause"
    assert docker("run", "--rm", "--network", "none", image, "archiver", "--version").startswith(
        f"archiver {VERSION} "
    )


def test_its_sbom_lists_all_packages_that_it_has(image: str) -> None:
    sbom = json.loads(docker("run", "--rm", "--network", "none", image, "cat", SBOM))
    assert sbom["bomFormat"] == "CycloneDX"
    listed = {component["name"]: component["version"] for component in sbom["components"]}
    installed = json.loads(docker("run", "--rm", "--network", "none", image, "python", "-c", INSTALLED))
    assert listed == installed
    assert installed["g3-recorder"] == VERSION


def test_without_a_disk_at_its_data_directory_archiver_refuses_to_record(image: str) -> None:
    """It would record into the container itself, and the files would be removed with it."""
    done = run("docker", "run", "--rm", "--network", "none", image, "archiver", check=False)
    assert done.returncode == 1
    assert "the data directory /data can't be used" in done.stderr


def test_docker_stops_it_in_order_at_once(image: str) -> None:
    """Also as process 1, to which the kernel delivers no signal without a handler."""
    name = docker("run", "--detach", "--network", "none", image, "ingest", "--stream", "x").strip()
    try:
        eventually(lambda: "from localhost:50000" in run("docker", "logs", name).stderr, lambda: "it has begun")
        docker("stop", "--time", "20", name)
        assert json.loads(docker("inspect", name))[0]["State"]["ExitCode"] == 0
    finally:
        docker("rm", "--force", "--volumes", name)
