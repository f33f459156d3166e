"""What sotodlib finds of what is recorded.

The frames are made by so3g, as SMuRF's streamer makes them, and sent by a real G3NetworkSender.
"""

from pathlib import Path

import pytest
from analysis import ARCHIVE, STREAM_ID, Analysis, Session, finished_sessions
from processes import Recorder

from compose.simulator import Simulator

pytestmark = pytest.mark.timeout(600)  # of which sotodlib's installation takes two minutes, once


def recorded(recorder: Recorder) -> list[str]:
    """The files of the archive."""
    return [str(path.relative_to(recorder.data(ARCHIVE))) for path in recorder.files(ARCHIVE)]


def test_why_not_the_default_names(recorder: Recorder, analysis: Analysis) -> None:
    """Should sotodlib come to find these, the docs are to say so."""
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        recorder.ingest(simulator.port)
        archiver = recorder.archiver(archive=ARCHIVE)
        Session(simulator).command("wait", "start", "frames 3 --rate 5", "end")
        finished_sessions(archiver)

    found = analysis.index(recorder.directory)
    [file] = recorded(recorder)
    assert found["observations"] == []
    assert found["unobserved"] == [file]
    assert found["missing"] == [str(Path(file).with_name("SHA256SUMS"))]
    assert "'.archiver'" in found["error"]
