"""What `--on-file` may be, what it is given, and what happens to what it prints."""

import argparse
import logging
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.core.events import Event, FileAdopted, FileRetired, encode
from archiver.handover.command_run import variables
from archiver.handover.on_file import Command, Webhook, on_file
from archiver.handover.on_file_sink import OnFileSink
from archiver.handover.sink import PendingEvent, SinkError
from tests.unit.archiver.core.test_catalog import SALVAGED, finished, lost

ROOT = Path("/data")
RETIRED = FileRetired("archiver", "s", "15463/s/2019-01-01-12-00-00_000.g3", "0" * 64, 7, 1, "me", "host")
ADOPTED = FileAdopted("archiver", "s", "15463/s/2019-01-01-12-00-00_000.g3", 3, 7, "0" * 64, 1, "me", "host")


def pending(event: Event) -> PendingEvent:
    return PendingEvent(event, encode(event), 5, 1, attempt=2)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("copy-away --to nas", Command(("copy-away", "--to", "nas"))),
        ("sh -c 'echo $G3_PATH | cat'", Command(("sh", "-c", "echo $G3_PATH | cat"))),
        ('"/opt/my tools/copy" ""', Command(("/opt/my tools/copy", ""))),
        ("httpd", Command(("httpd",))),
        ("http://h", Webhook("h", 80, "/", is_tls=False)),
        ("https://h/a/b?token=x", Webhook("h", 443, "/a/b?token=x", is_tls=True)),
        ("HTTP://H:8080/", Webhook("h", 8080, "/", is_tls=False)),
        ("http://[::1]:8080/x", Webhook("::1", 8080, "/x", is_tls=False)),
    ],
)
def test_what_it_names(text: str, meant: Command | Webhook) -> None:
    assert on_file(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "''", "copy 'to", "a\0b"),
        *("http://", "http://h:x/", "http://h:99999/", "http://h/a b", "http://h/ü", "https:///x"),
    ],
)
def test_what_is_neither_a_command_nor_a_url(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        on_file(text)


def test_a_secret_in_a_url_is_never_shown() -> None:
    with pytest.raises(argparse.ArgumentTypeError) as refused:
        on_file("https://me:geheim@h/")
    assert "geheim" not in str(refused.value)
    assert str(on_file("https://h/x?token=geheim")) == "https://h:443/x"
    assert str(on_file("http://[::1]:1/")) == "http://[::1]:1/"


def test_what_each_event_tells_a_command() -> None:
    file = dict(variables(pending(finished(0)), ROOT))
    assert file.pop("G3_PATH") == f"/data/{finished(0).path}"
    assert file == {
        "G3_EVENT": "file",
        "G3_KEY": finished(0).key,
        "G3_GROUP": "archiver",
        "G3_STREAM": "crate1slot2",
        "G3_DATA_DIR": "/data",
        "G3_ATTEMPT": "2",
        "G3_SHA256": "0" * 64,
        "G3_BYTES": "1000",
        "G3_FRAMES": "10",
    }
    assert variables(pending(lost(7, 7)), ROOT).keys() == file.keys() - {"G3_SHA256", "G3_BYTES", "G3_FRAMES"}
    assert variables(pending(SALVAGED), ROOT).keys() == file.keys() | {"G3_PATH"}
    assert variables(pending(RETIRED), ROOT).keys() == file.keys() - {"G3_FRAMES"} | {"G3_PATH"}


def test_all_events_are_wanted_but_those_of_adopted_files() -> None:
    for target in (Command(("true",)), Webhook("h", 80, "/", is_tls=False)):
        sink = OnFileSink(target, ROOT)
        events: list[Event] = [finished(0), lost(7, 7), SALVAGED, RETIRED]
        assert all(sink.wants(event) for event in events)
        assert not sink.wants(ADOPTED)
        assert sink.name == "on-file", "the position is the same, whatever the hook is"


def run(script: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Run it for an event; gives what it says in the log. Raises SinkError."""
    caplog.clear()
    caplog.set_level(logging.INFO)
    try:
        OnFileSink(Command((sys.executable, "-c", script)), ROOT).deliver(pending(finished(0)), threading.Event())
    finally:
        found = [record.getMessage() for record in caplog.records]
    return [text.removeprefix("on-file: output: ") for text in found]


def test_a_command_gets_the_event_as_a_line_and_what_it_says_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    said = run(
        "import sys; data = sys.stdin.buffer.read(); sys.stdout.buffer.write(data + b'no UTF-8: \\xff\\n\\nno end')",
        caplog,
    )
    assert said == [encode(finished(0)).decode(), "no UTF-8: \N{REPLACEMENT CHARACTER}", "no end"]
    assert run("print('x' * 5000)", caplog) == ["x" * 1000 + " …"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit(3)", "exit code 3"),
        ("print('full', end='\\n\\n'); exit(1)", "exit code 1: full"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("raise ValueError('\\x1b[31m')", "exit code 1: ValueError: \\x1b[31m"),
    ],
)
def test_a_command_that_fails_says_why(script: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SinkError) as failed:
        run(script, caplog)
    assert str(failed.value) == why


def test_a_command_that_reads_nothing_or_leaves_something_behind_is_done(caplog: pytest.LogCaptureFixture) -> None:
    assert run("import os; os.close(0)", caplog) == []
    left = run("import os, time\nprint('mine', flush=True)\nif os.fork() == 0: time.sleep(5)", caplog)
    assert left == ["mine"]


def test_of_a_command_that_prints_much_the_first_lines_are_logged_and_the_last_is_the_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = "for n in range(100_000): print(n)\nprint('x' * 5000)\nprint('the reason')\nexit(1)"
    with pytest.raises(SinkError, match="exit code 1: the reason"):
        run(script, caplog)
    said = [record.getMessage() for record in caplog.records]
    assert said[:100] == [f"on-file: output: {number}" for number in range(100)]
    assert said[100:] == ["on-file: further output of this run is not logged"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=3000), max_size=20))
def test_whatever_a_command_prints_the_log_gets_bounded_lines(
    caplog: pytest.LogCaptureFixture, chunks: list[bytes]
) -> None:
    said = run(f"import sys; sys.stdout.buffer.write(b''.join({chunks!r}))", caplog)
    whole = b"".join(chunks).decode(errors="replace")
    assert len(said) <= 101
    assert all(len(line) <= 1002 for line in said)
    if whole.count("\n") < 100 and all(len(line) < 300 for line in whole.split("\n")):
        assert said == [line.rstrip() for line in whole.split("\n") if line.strip()]
