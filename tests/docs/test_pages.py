"""Each page's commands and programs, executed in order, do what the page shows."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.sotodlib_venv import SOTODLIB
from testbed.venv import IndexUnreachable
from tests.docs.network import NoNetworkError, private_network
from tests.docs.pages import PAGES, Command, Program, name_of, steps
from tests.docs.run import execute, executed
from tests.docs.setups import NOT_CONVERTED, SetUp, set_up_of
from tests.docs.site import Site, new_site

pytestmark = pytest.mark.slow

CONVERTED = {name_of(page): page for page in PAGES if name_of(page) not in NOT_CONVERTED}
STEPS = {name: found for name, page in CONVERTED.items() if (found := executed(steps(page), name))}
SITES = {name: (set_up_of(name), "" if set_up_of(name).shared else name) for name in STEPS}


PROGRAMS = re.compile(r"(?:^|\| *)(sqlite3|curl|jq)\b")
"""Programs that not every machine has."""


def missing_programs(page: str) -> set[str]:
    commands = " | ".join(step.text for step in STEPS[page] if isinstance(step, Command))
    return {name for name in PROGRAMS.findall(commands) if not shutil.which(name)}


def needs_so3g(page: str) -> bool:
    return any(isinstance(step, Program) and step.needs_so3g for step in STEPS[page])


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    key: tuple[SetUp, str] = request.param
    so3g = None
    if any(needs_so3g(page) for page, its in SITES.items() if its == key):
        try:
            so3g = SOTODLIB.python()
        except IndexUnreachable as why:
            print(f"no sotodlib: {why}")
    try:
        with private_network(), new_site(so3g) as made, key[0].prepare(made):
            yield made
    except NoNetworkError as why:
        pytest.skip(str(why))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("site", "page"), [(SITES[page], page) for page in STEPS], ids=STEPS.keys(), indirect=["site"]
)
def test_what_the_page_shows(site: Site, page: str, tmp_path: Path) -> None:
    if needs_so3g(page) and not site.so3g:
        pytest.skip("no sotodlib")
    if missing := missing_programs(page):
        pytest.skip(f"not installed: {', '.join(missing)}")
    execute(page, STEPS[page], site, tmp_path)
