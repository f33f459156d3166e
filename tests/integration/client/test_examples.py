"""The examples of docs/analyse/client.md, each as a program of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import RawSender, Recorder, eventually, flow, scan

PAGE = Path(__file__).parents[3] / "docs" / "analyse" / "client.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
A_LINE = r"[^\n]+\n"
PRINTED = [
    "Scan 0\nScan 1\nScan 2\n",
    "2\n",
    rf"(\d+ (connected|disconnected|START|start|quiet) {A_LINE})*"
    rf"(\d+ \d 1\d\d\d bytes\n){{3}}\d+ end None\n(\d+ {A_LINE})*",
    "0\n1\n2\n",
    "0\n1\n2\n",
    r"\d{5}/\S+\.g3 3 \d+ [0-9a-f]{64}\n",
]
"""What each prints, as a regular expression: of its beginning, if it follows."""


def test_each_example_is_expected_to_print_something() -> None:
    assert len(EXAMPLES) == len(PRINTED)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Recorder:
    """A stream with three frames, and an archive with its file, recorded by real programs."""
    directory = tmp_path_factory.mktemp("examples")
    stream = f"client-{directory.parent.name}-{os.getpid()}"
    with Recorder(kafka, stream, directory) as site:
        site.create_topic()
        archiver = site.archiver()
        archiver.await_line(f"recording {stream}")
        with RawSender() as sender:
            site.ingest(sender.port)
            with sender.accept() as connection:
                connection.sendall(b"".join([flow(1), *map(scan, range(3)), flow(2)]))
                eventually(lambda: len(site.files()) == 1, "the file is finished")
                archiver.await_line("finished")
    return site


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(recorded: Recorder, tmp_path: Path, number: int) -> None:
    code = EXAMPLES[number].replace("crate1slot2", recorded.stream)
    code = code.replace('"my-display"', f'"{recorded.stream}.display"')
    if "g3stream.files(" in code:
        code = code.replace(")", f', group="{recorded.stream}.archive")', 1)
    script = tmp_path / "example.py"
    script.write_text(code)
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": recorded.servers, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path) as program:
        assert program.stdout
        if "follow=True" in code:
            printed = "".join(program.stdout.readline() for _ in range(3))
            program.kill()
        else:
            printed = program.stdout.read()
    assert re.fullmatch(PRINTED[number], printed), printed
    assert program.returncode == (-9 if "follow=True" in code else 0)
