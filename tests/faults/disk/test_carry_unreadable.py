"""During recovery the file that has the carried frame can't be read."""

import pytest

from g3stream.contract.topics import frames_topic
from tests.support.archives import Source, assert_same_tree, disturbed
from tests.support.processes import Recorder, delete_before, eventually

UNREADABLE = ["EIO", "before", r"pread .*_000\.g3$", "--times", "1000"]


@pytest.fixture
def source(recorder: Recorder) -> Source:
    """A stream disconnected in mid-acquisition; its archiver has finished the file, and was stopped."""
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    archiver = recorder.archiver()
    source.start()
    source.scans(5)
    source.lost()
    archiver.await_line(r"finished .* \(disconnected\)")
    eventually(lambda: recorder.committed() == source.sent, "all committed")
    assert archiver.stop() == 0
    source.now += 1000
    return source


def test_it_comes_from_the_topic(recorder: Recorder, source: Source) -> None:
    undisturbed = recorder.archiver(archive="undisturbed")
    archiver = disturbed(recorder, UNREADABLE, archive="archive")
    source.scans(5)
    source.end()
    for one in (archiver, undisturbed):
        one.await_line(r"finished .* \(end\)")
    archiver.await_line("WARNING .*_000.g3: .*Input/output error", 0)
    assert_same_tree(recorder.tree(), recorder.tree("undisturbed"))


def test_if_the_topic_no_longer_has_it_that_is_logged(recorder: Recorder, source: Source) -> None:
    delete_before(recorder.servers, frames_topic(recorder.stream), source.sent)
    archiver = disturbed(recorder, UNREADABLE, archive="archive")
    archiver.await_line("ERROR .*the carried frame of type Observation is lost: its next files begin without it")
    source.scans(5)
    source.end()
    assert "5 frames" in archiver.await_line(r"finished .* \(end\).*")[0]
