"""--local-time: which zone typed times are of, wherever the flag stands."""

import time
from collections.abc import Iterator

import pytest

from archiver.__main__ import make_command_parser
from archiver.commands.files import make_parser
from archiver.console.arguments import resolve_times
from archiver.console.tables import plain
from archiver.core.catalog import FileCatalog
from archiver.status.info import as_text, summarize

NOON_UTC = 1_795_348_800_000  # 2026-11-22T12:00:00Z


@pytest.fixture(autouse=True)
def in_santiago(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/Santiago")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("arguments", "since"),
    [
        (["--since", "2026-11-22T12:00:00"], NOON_UTC),
        (["--since", "2026-11-22T09:00:00", "--local-time"], NOON_UTC),
        (["--local-time", "--since", "2026-11-22T09:00:00"], NOON_UTC),
        (["--local-time", "--since", "2026-11-22T12:00:00Z"], NOON_UTC),
    ],
)
def test_times_are_utc_or_local_wherever_the_flag_stands(arguments: list[str], since: int) -> None:
    options = make_parser().parse_args(arguments)
    resolve_times(options)
    assert options.since == since
    assert options.until is None


@pytest.mark.parametrize(("flags", "shown"), [([], "2026-11-22 12:00:00"), (["--local-time"], "2026-11-22 09:00:00")])
def test_an_archive_on_one_screen_in_either_zone(flags: list[str], shown: str) -> None:
    zone = make_command_parser("info").parse_args(flags).zone
    info = summarize("archiver", FileCatalog.from_events([]), 0, {"crate1slot2": NOON_UTC}, [], None, NOON_UTC)
    text = plain(as_text(info, NOON_UTC, zone))
    assert f"files since {shown}\n" in text
    assert ("(local times)" in text) == bool(flags)


@pytest.mark.parametrize("command", ["files", "info", "verify", "repair", "replay", "retire"])
def test_every_command_that_has_times_can_have_them_local(command: str) -> None:
    assert "--local-time" in make_command_parser(command).format_help()
