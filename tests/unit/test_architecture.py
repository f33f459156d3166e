"""The laws of the architecture: `make lint` finds an import that breaks one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("g3stream", "ingest", "archiver", "g3_agents", "testbed", "bench")
CHECK = "from importlinter.cli import lint_imports_command; lint_imports_command()"

pytest.importorskip("importlinter", reason="the extra `lint` isn't installed")


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the packages and their laws, in which tests break them."""
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(tree: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", CHECK, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def test_no_law_is_broken(copied: Path) -> None:
    done = lint(copied)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "law"),
    [
        ("archiver/core/paths.py", "import time", "the core is pure"),
        ("archiver/core/segmentation.py", "import confluent_kafka", "the core is pure"),
        ("g3stream/frame_format/scalars.py", "import spt3g", "the core is pure"),
        ("g3stream/contract/sequence.py", "import archiver.storage.directory", "decisions at the bottom"),
        ("archiver/storage/directory.py", "import archiver.recording.inbox", "decisions at the bottom"),
        ("archiver/operations/retirement.py", "import os", "decisions in other rooms are pure"),
        ("ingest/receive/connection.py", "import ingest.publish.publisher", "a record is received"),
        ("archiver/metrics.py", "import ingest.metrics", "know nothing of each other"),
        ("g3stream/service/endpoint.py", "import archiver.core.paths", "g3stream of neither"),
        ("g3stream/contract/producer_epoch.py", "import g3stream.kafka.topic_admin", "client, service > kafka"),
        ("archiver/core/paths.py", "import archiver.core.segmentation", "imports in a circle"),
    ],
)
def test_an_import_that_breaks_a_law_is_found(copied: Path, module: str, line: str, law: str) -> None:
    source = copied / module
    before = source.read_text()
    source.write_text(f"{before}\n{line}\n")
    try:
        done = lint(copied)
    finally:
        source.write_text(before)
    assert done.returncode == 1, done.stdout
    [broken] = [text for text in done.stdout.split("\nBroken contracts\n")[1:]]
    assert law in " ".join(broken.split())
