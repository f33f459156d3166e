"""Up to when an archive is final, as Kafka knows: never past what is in no finished file, whatever has died."""

import time
from typing import Any

import pytest

from archiver.suprsync.finalization import read
from archiver.suprsync.finalized_until import MARGIN_MS
from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC
from g3stream.kafka.topic_admin import TopicAdmin
from tests.support.archives import Source, all_committed, disturbed
from tests.support.processes import Recorder, eventually


class Site:
    """A stream's records, at times of their own long ago, and its archive."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        recorder.create_topic()
        TopicAdmin({"bootstrap.servers": recorder.servers}).ensure(EXPECTED_FILES_TOPIC)
        self.source = Source(recorder.servers, recorder.stream, epochs=0)
        self.source.now -= 3_600_000

    def until(self) -> int:
        """Up to when it is final now, ms."""
        config: dict[str, Any] = {"bootstrap.servers": self.recorder.servers}
        streams = [self.recorder.stream]
        found, _ = read(config, f"{self.recorder.stream}.archive", streams, time.time_ns() // 1_000_000)
        return found.time_ms + MARGIN_MS

    def await_until(self, ms: int) -> None:
        """That becomes so, and isn't passed on the way."""

        def is_so() -> bool:
            found = self.until()
            assert found <= ms, f"{found - ms} ms too late"
            return found == ms

        eventually(is_so, "it is final up to there")


@pytest.fixture
def site(recorder: Recorder) -> Site:
    return Site(recorder)


def test_what_waits_what_is_open_and_what_a_sender_has_not_given_yet_hold_it_back(site: Site) -> None:
    source = site.source
    source.restart()  # lost, connected
    published_first = source.now
    source.now += 1000
    source.start()
    assert site.until() <= published_first, "nothing of it is recorded yet"
    first_frame = source.now
    source.scans(20)
    archiver = site.recorder.archiver()
    archiver.await_line("opened")
    site.await_until(first_frame)

    archiver.kill()
    source.scans(20)
    assert site.until() == first_frame, "who records it is dead"
    archiver = site.recorder.archiver()
    source.now += 1000
    ended = source.now
    source.end()
    archiver.await_line(r"finished .* \(end\)")
    site.await_until(ended)  # connected: what it gives next may be on its way
    eventually(lambda: all_committed(site.recorder, [source]), "the END is committed, too")

    archiver.kill()
    source.now += 5000
    waits = source.now
    source.start()
    source.scans(5)
    site.await_until(waits)
    archiver = site.recorder.archiver()
    archiver.await_line("opened")
    source.lost()
    archiver.await_line(r"finished .* \(disconnected\)")
    before = time.time_ns() // 1_000_000
    eventually(lambda: site.until() >= before, "with no connection it goes with the clock")


def test_a_file_that_spans_a_kill_between_its_event_and_the_commit_is_open_until_both_are_there(site: Site) -> None:
    source = site.source
    killed = disturbed(
        site.recorder, ["kill", "after", "flush", "--since", "produce g3.files .*_000"], archive="archive"
    )
    source.start()
    first_frame = source.now
    source.scans(20)
    killed.await_line("opened")
    source.end()
    killed.exit_code()
    assert site.until() <= first_frame, "its event is there, but it isn't committed that it is finished"
    site.recorder.archiver().await_line(r"finished .* \(end\)")
    site.await_until(source.now)
