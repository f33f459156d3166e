"""A stream's topic is deleted: the other streams are still recorded, and new ones are found as soon as before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from g3stream.contract.topics import frames_topic
from tests.support.archives import Gate, Source, all_committed, disturbed
from tests.support.processes import SECONDS, Program, Recorder, admin_client, delete_before, eventually, numbers

FOUND_SECONDS = 20.0
"""It takes 6 s on an idle machine."""


class Site:
    """A recorder's broker, and streams: two whose topics will be deleted, one that stays, one that begins later.

    The name of the one that stays is between the others', so that loops over all streams handle one of them after it.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        base = recorder.stream[-8:]
        self.gone, self.stays, self.also_gone, self.new = (f"{n}-{base}" for n in ("a", "b", "c", "d"))
        self.gate = Gate(recorder.directory)
        self._admin = admin_client(recorder.servers)

    @property
    def flags(self) -> list[str]:
        """Return an archiver's flags to record all of them."""
        return [flag for name in (self.stays, self.gone, self.also_gone, self.new) for flag in ("--stream", name)]

    def begin(self, *streams: str) -> list[Source]:
        """Create the topics of these streams, each with a START and a frame."""
        sources = []
        for stream in streams:
            self.recorder.create_topic(stream)
            sources.append(Source(self.recorder.servers, stream))
            sources[-1].start()
        return sources

    def await_committed(self, *sources: Source, archive: str = "archive") -> None:
        """Wait until all that these streams have sent is committed."""
        streams = ", ".join(source.stream for source in sources)
        eventually(lambda: all_committed(self.recorder, sources, archive), f"all committed of {streams}")

    def delete(self, *streams: str) -> None:
        """Delete the topics of these streams."""
        topics = [frames_topic(stream) for stream in streams]
        for future in self._admin.delete_topics(topics).values():
            future.result(SECONDS)

    def held(self, call: str, nth: int = 1) -> Program:
        """Start an archiver whose thread that makes the n-th such call (injection/stopped_at.py) waits at `gate`."""
        return disturbed(self.recorder, self.gate.at(call, nth=nth), *self.flags, archive="archive")

    def assert_recording(self, archiver: Program, source: Source) -> None:
        """Check that the archiver continues with this stream, and finds a new one."""
        source.end()
        archiver.await_line(rf"{source.stream}: finished .* \(end\)")
        self.begin(self.new)
        archiver.await_line(rf"{self.new}: opened", seconds=FOUND_SECONDS)


@pytest.fixture
def site(kafka: str, stream: str, tmp_path: Path) -> Iterator[Site]:
    with Recorder(kafka, stream, tmp_path) as recorder:
        yield Site(recorder)


def test_while_the_archiver_is_away(site: Site) -> None:
    """The group assigns the stream to the archiver again, as it was assigned when the archiver left."""
    stays, gone = site.begin(site.stays, site.gone)
    archiver = site.recorder.archiver(*site.flags)
    site.await_committed(stays, gone)
    assert archiver.stop() == 0
    site.delete(site.gone)
    again = site.recorder.archiver(*site.flags)
    again.await_line(f"{site.stays}: continuing")
    site.assert_recording(again, stays)
    assert again.stop() == 0


def test_while_it_is_recorded(site: Site) -> None:
    stays, gone, also_gone = site.begin(site.stays, site.gone, site.also_gone)
    archiver = site.recorder.archiver(*site.flags)
    site.await_committed(stays, gone, also_gone)
    site.delete(site.gone)
    archiver.await_line(f"{site.gone}: released")
    site.delete(site.also_gone)
    site.assert_recording(archiver, stays)
    archiver.await_line(f"{site.also_gone}: released")
    assert archiver.stop() == 0


def test_while_a_disk_is_waited_for_with_a_commit(site: Site) -> None:
    """A commit is for all streams, after their files have been synced one after the other."""
    stays, gone, also_gone = sources = site.begin(site.stays, site.gone, site.also_gone)
    archiver = site.held(f"fdatasync .*/{site.stays}/", nth=3)

    def all_go_on() -> bool:
        for source in sources:
            source.scans(1)
        return bool(archiver.times_of("^stopped_at: hold"))

    eventually(all_go_on, "a commit of all of them")
    site.delete(site.gone, site.also_gone)
    for source in (gone, also_gone):
        archiver.await_line(f"{source.stream}: released")
    site.gate.open()
    site.assert_recording(archiver, stays)
    assert archiver.stop() == 0


def test_after_retention_had_overtaken_it(site: Site) -> None:
    """Kafka is asked for the offset at which the stream continues, and never answers."""
    stays, gone = site.begin(site.stays, site.gone)
    archiver = site.recorder.archiver(*site.flags)
    site.await_committed(stays, gone)
    assert archiver.stop() == 0
    gone.scans(10)
    delete_before(site.recorder.servers, frames_topic(site.gone), gone.sent - 1)
    again = site.held(f"watermarks {frames_topic(site.gone)}$")
    again.await_line("^stopped_at: hold")
    site.delete(site.gone)
    site.gate.open()
    site.assert_recording(again, stays)
    assert again.stop() == 0


def test_it_is_created_again_while_a_commit_and_records_of_the_former_one_wait(recorder: Recorder) -> None:
    """Their offsets are higher than all of the new topic, which is committed nevertheless."""
    recorder.create_topic()
    source, gate = Source(recorder.servers, recorder.stream), Gate(recorder.directory)
    source.start()
    source.scans(5)
    archiver = disturbed(recorder, gate.at(r"fdatasync .*_\d"), archive="archive")
    archiver.await_line("^stopped_at: hold")
    source.scans(5)
    source.end()
    source.start()
    source.scans(5)
    recorder.recreate_topic()
    renewed = Source(recorder.servers, recorder.stream, epochs=0)
    renewed.start()
    archiver.await_line("created again|released", FOUND_SECONDS)
    gate.open()
    renewed.scans(3)
    renewed.end()
    renewed.start()
    eventually(lambda: recorder.committed() == renewed.sent, "all of the new topic committed")
    assert archiver.stop() == 0
    assert "lies below" not in archiver.log
    again = recorder.archiver()
    renewed.end()
    again.await_line(r"finished .* \(end\)")
    frames = [n for file in recorder.files() for n in numbers(file.read_bytes(), recorder.directory / "scratch.g3")]
    assert frames.count(2) in (1, 2), "of the new topic, and if it was read, of the former one"
