"""The man pages that `make man` makes, read as `man` shows them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from archiver.__main__ import COMMANDS, make_command_parser
from archiver.__main__ import make_parser as archiver_parser
from g3stream.service.arguments import EnvArgumentParser
from ingest.__main__ import make_parser as ingest_parser

COLUMNS = 80
GROFF, MANDOC = shutil.which("groff"), shutil.which("mandoc")
PAGES = ["ingest", "archiver", *(f"archiver-{name}" for name in COMMANDS)]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pages") / "man"
    subprocess.run([sys.executable, "packaging/man_pages.py", directory], check=True)
    return directory


def parser_of(page: str) -> EnvArgumentParser:
    if "-" in page:
        return make_command_parser(page.removeprefix("archiver-"))
    return {"ingest": ingest_parser, "archiver": archiver_parser}[page]()


def test_each_command_has_its_page(pages: Path) -> None:
    assert sorted(path.name for path in pages.iterdir()) == sorted(f"{page}.1" for page in PAGES)


@pytest.mark.skipif(not GROFF, reason="groff isn't installed")
@pytest.mark.parametrize("page", PAGES)
def test_groff_has_nothing_to_say_and_every_flag_is_there_within_80_columns(pages: Path, page: str) -> None:
    done = subprocess.run(
        [str(GROFF), "-man", "-Tutf8", "-P-c", "-ww", f"-rLL={COLUMNS}n", pages / f"{page}.1"],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = re.sub(".\x08", "", done.stdout)  # bold and underlined, as on a typewriter
    assert done.stderr == ""
    for argument in parser_of(page).arguments:
        for flag in argument.option_strings:
            assert f"       {flag}" in shown or f", {flag}" in shown
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == []
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"):
        assert f"\n{section}\n" in shown


@pytest.mark.skipif(not MANDOC, reason="mandoc isn't installed")
@pytest.mark.parametrize("page", PAGES)
def test_mandoc_accepts_it(pages: Path, page: str) -> None:
    subprocess.run([str(MANDOC), "-Tlint", "-Wwarning", pages / f"{page}.1"], check=True)


def test_a_page_says_nothing_of_who_made_it_where(pages: Path) -> None:
    texts = {path.name: path.read_text().replace(r"\(ti", "~") for path in pages.iterdir()}
    assert "default ~/.local/state/g3" in texts["ingest.1"]
    assert not any(str(Path.home()) in text for text in texts.values())
