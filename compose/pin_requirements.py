"""Pin the versions in the container image: `python compose/pin_requirements.py > compose/requirements.txt`.

The dependencies in pyproject.toml and all of theirs, in their newest versions on the package index, for the image's
Python. So the image is the same whenever it is built. spt3g's scipy and astropy are excluded: `spt3g.core`, all that
is used here, doesn't import them, and they are as large as everything else together.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_PYTHON = "3.11"
_HEADER = """\
# What is in the container image: written by `python compose/pin_requirements.py`. Don't edit.
# spt3g's scipy and astropy are left out on purpose; install with --no-deps.
"""


def required_pins() -> tuple[Sequence[str], Sequence[str]]:
    """The requirements in pyproject.toml: those to install with their dependencies, and (spt3g) those without."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["spt3g"], *extras["ocs"], *extras["web"]]
    alone = [requirement for requirement in requirements if re.match(r"spt3g\b", requirement)]
    return ([requirement for requirement in requirements if requirement not in alone] + ["numpy"], alone)


def _resolved(*arguments: str) -> list[str]:
    """`name==version` of all that pip would install. Raises CalledProcessError; pip's reason is on stderr."""
    with tempfile.TemporaryDirectory() as nowhere:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
        python = ["--python-version", _PYTHON, "--only-binary=:all:", "--target", nowhere]
        done = subprocess.run([*pip, *python, *arguments], stdout=subprocess.PIPE, check=True)
    found = [item["metadata"] for item in json.loads(done.stdout)["install"]]
    return [f"{re.sub('[-_.]+', '-', data['name']).lower()}=={data['version']}" for data in found]


def main() -> int:
    """Write the list to stdout. Returns the exit code."""
    together, alone = required_pins()
    try:
        pins = {*_resolved(*together), *_resolved("--no-deps", *alone)}
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    print(_HEADER + "\n".join(sorted(pins)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
