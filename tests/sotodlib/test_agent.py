"""The site file of docs/operate/simons-observatory.md: what such an agent records is found and read by sotodlib."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.smurf.simulator import Simulator
from tests.sotodlib.analysis import ARCHIVE, STREAM_ID, Analysis, Session, ended, finished_sessions, names

if TYPE_CHECKING:
    from tests.ocs.agents import Observatory  # which needs the package ocs


_DOCS = Path(__file__).parents[2] / "docs" / "operate" / "simons-observatory.md"


def documented() -> list[list[str]]:
    """The options of the block that decide what is found: all but where the data come from and go to."""
    block = _DOCS.read_text().split("'agent-class': 'SmurfRecorder'", 1)[1].split("```", 1)[0]
    options = [re.findall(r"'([^']+)'", line) for line in block.splitlines() if "['--" in line]
    kept = ("--checksums", "--name-format", "--carry")
    return [option for option in options if option[0] in kept]


def test_the_documented_agents_files_are_found(observatory: "Observatory", analysis: Analysis) -> None:
    assert len(documented()) == 3
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        agent = observatory.recorder(
            simulator.port,
            *documented(),
            ["--private-dir", str(observatory.directory / "private")],
            ["--time-per-file", 1],
        )
        session = Session(simulator).command("wait", "start", "frames 10 --rate 5", "end")
        finished_sessions(agent)

    (observatory.directory / ARCHIVE).symlink_to(observatory.data())
    found = analysis.update(observatory.directory)
    files = names(session.id, len(observatory.files()))
    assert len(files) >= 2
    assert found["observations"] == [ended(session, files)]
    assert (found["files"], found["missing"], found["unobserved"], found["error"]) == (files, [], [], None)
