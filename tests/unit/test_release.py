"""What the files of a release say of its version agrees; docs/reference/releasing.md says when each is changed."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
NEXT = Version(PROJECT["tool"]["setuptools_scm"]["fallback_version"])


def test_the_changelog_and_the_image_name_the_version_that_is_next() -> None:
    top = re.search(r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    image = re.search(r"^RECORDER_VERSION=(.+)$", (ROOT / "compose" / ".env").read_text(), re.MULTILINE)
    assert top
    assert image
    assert Version(top[1]) == Version(NEXT.base_version)
    assert Version(image[1]) == (NEXT if top[2] == "unreleased" else Version(top[1]))
    assert re.fullmatch(r"unreleased|\d{4}-\d\d-\d\d", top[2])


def test_no_installed_version_is_older_than_the_one_that_is_next() -> None:
    """Also in a clone without tags, and where there is no git."""
    assert Version(version("g3-recorder")) >= NEXT
