"""What pyproject.toml lists is all that there is; `make dist` looks into what is built of it."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = [pattern.removesuffix("*") for pattern in SETUPTOOLS["packages"]["find"]["include"]]


def matches(directory: Path, patterns: Iterable[str]) -> set[Path]:
    return {path for pattern in patterns for path in directory.glob(pattern) if path.is_file()}


@pytest.mark.parametrize("package", PACKAGES)
def test_each_file_of_a_package_that_is_no_code_is_listed(package: str) -> None:
    directory = ROOT / package
    files = {path for path in directory.rglob("*") if path.is_file() and path.parent.name != "__pycache__"}
    data = {path for path in files if path.suffix != ".py"}
    assert matches(directory, SETUPTOOLS["package-data"].get(package, ())) == data


def test_what_is_installed_in_share_has_the_paths_that_the_documentation_names() -> None:
    shared = SETUPTOOLS["data-files"]
    for directory, patterns in shared.items():
        for pattern in patterns:
            found = matches(ROOT, [pattern])
            assert found, pattern
            assert {f"share/g3-recorder/{path.parent.relative_to(ROOT)}" for path in found} == {directory}
    found = matches(ROOT, [pattern for patterns in shared.values() for pattern in patterns])
    assert {path for path in (ROOT / "packaging" / "systemd").rglob("*") if path.is_file()} <= found
    assert ROOT / "docs" / "reference" / "g3.files.schema.json" in found
    assert ROOT / "compose" / "monitoring" / "alerts.yml" in found
    assert ROOT / "compose" / "monitoring" / "grafana" / "dashboards" / "g3-recorder.json" in found
