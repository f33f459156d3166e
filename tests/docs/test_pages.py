"""Each page's commands and programs, executed in order, do what the page shows."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from testbed.sotodlib_venv import SOTODLIB
from testbed.venv import IndexUnreachable
from tests.docs.network import NoNetworkError, private_network
from tests.docs.pages import PAGES, Command, Program, name_of, steps
from tests.docs.run import execute, executed
from tests.docs.setups import SetUp, set_up_of
from tests.docs.site import Site, new_site

pytestmark = pytest.mark.slow

STEPS = {name_of(page): found for page in PAGES if (found := executed(steps(page), name_of(page)))}
KEYS = {name: (set_up_of(name), "" if set_up_of(name).shared else name) for name in STEPS}
"""Pages with equal keys have the same site."""
IN_ORDER = [page for key in dict.fromkeys(KEYS.values()) for page in STEPS if KEYS[page] == key]

PROGRAMS = re.compile(r"(?:^|\| *)(sqlite3|curl|jq)\b")
"""Programs that not every machine has."""


def missing_programs(page: str) -> set[str]:
    commands = " | ".join(step.text for step in STEPS[page] if isinstance(step, Command))
    return {name for name in PROGRAMS.findall(commands) if not shutil.which(name)}


def needs_so3g(page: str) -> bool:
    return any(isinstance(step, Program) and step.needs_so3g for step in STEPS[page])


class Sites:
    """The site of the page that is executed; the next page has the same one, if their keys are equal."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._present: tuple[tuple[SetUp, str], Site] | None = None

    def of(self, page: str) -> Site:
        """Return a page's site. Raises NoNetworkError."""
        if self._present is None or self._present[0] != KEYS[page]:
            self.close()
            with ExitStack() as stack:
                so3g = _so3g() if any(needs_so3g(it) for it, key in KEYS.items() if key == KEYS[page]) else None
                stack.enter_context(private_network())
                site = stack.enter_context(new_site(so3g))
                stack.enter_context(KEYS[page][0].prepare(site))
                self._stack = stack.pop_all()
            self._present = KEYS[page], site
        return self._present[1]

    def close(self) -> None:
        self._present = None
        self._stack.close()


def _so3g() -> Path | None:
    try:
        return SOTODLIB.python()
    except IndexUnreachable as why:
        print(f"no sotodlib: {why}")
        return None


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    found = Sites()
    yield found
    found.close()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", IN_ORDER)
def test_what_the_page_shows(sites: Sites, page: str, tmp_path: Path) -> None:
    if missing := missing_programs(page):
        pytest.skip(f"not installed: {', '.join(missing)}")
    try:
        site = sites.of(page)
    except NoNetworkError as why:
        pytest.skip(str(why))
    if needs_so3g(page) and not site.so3g:
        pytest.skip("no sotodlib")
    execute(page, STEPS[page], site, tmp_path)
