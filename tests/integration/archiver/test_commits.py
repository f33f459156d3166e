"""No commit of a stream lies below its last one, whichever thread asks for it: on a real broker."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka import Consumer, KafkaException

from archiver.kafka.offset_commits import OffsetCommit, OffsetCommits
from g3stream.service.cancellation import CancellationToken
from tests.support.processes import SECONDS, Recorder, committed


class Committing:
    """Commits of one stream's group, carried out as the archiver's loop does."""

    def __init__(self, recorder: Recorder) -> None:
        self.commits = OffsetCommits()
        self.stream = recorder.stream
        self.consumer = Consumer(
            {
                "bootstrap.servers": recorder.servers,
                "group.id": f"{recorder.stream}.archive",
                "enable.auto.commit": False,
                "on_commit": self.commits.on_commit_response,
            }
        )

    def commit(self, offset: int) -> None:
        """Ask for it on another thread; raises what that raises."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self.commits.commit, self.at(offset))
            while not done.done():
                self.commits.send_pending(self.consumer)
                self.consumer.poll(0.05)
            done.result()

    def commit_sync(self, *commits: OffsetCommit) -> Mapping[str, Exception]:
        """Commit them as at a stop; returns the errors, by stream."""
        return self.commits.commit_sync(self.consumer, commits, None, SECONDS)

    def at(self, offset: int) -> OffsetCommit:
        """That commit."""
        return OffsetCommit(self.stream, offset, "", CancellationToken())


@pytest.fixture
def committing(recorder: Recorder) -> Iterator[Committing]:
    recorder.create_topic()
    made = Committing(recorder)
    yield made
    made.consumer.close()


def test_a_commit_below_the_last_one_is_not_made(recorder: Recorder, committing: Committing) -> None:
    committing.commits.on_assigned(recorder.stream, 100)
    committing.commit(100)
    committing.commit(120)
    with pytest.raises(KafkaException, match="offset 119 lies below 120"):
        committing.commit(119)
    error = committing.commit_sync(committing.at(28))[recorder.stream]
    assert "offset 28 lies below 120" in str(error)
    assert recorder.committed() == 120


def test_a_topic_made_anew_begins_again(recorder: Recorder, committing: Committing) -> None:
    committing.commits.on_assigned(recorder.stream, None)
    committing.commit(50)
    committing.commits.on_offset_reset(recorder.stream, 150)  # retention was faster
    with pytest.raises(KafkaException, match="lies below"):
        committing.commit(3)
    committing.commits.on_offset_reset(recorder.stream, 0)
    committing.commit(3)
    assert committed(recorder.servers, f"{recorder.stream}.archive", recorder.stream) == [3]


def test_at_a_stop_the_others_are_committed(recorder: Recorder, committing: Committing) -> None:
    """One that must not be keeps no other from it."""
    other = f"{recorder.stream[:50]}-2"
    recorder.create_topic(other)
    committing.commits.on_assigned(recorder.stream, 100)
    committing.commits.on_assigned(other, 5)
    errors = committing.commit_sync(committing.at(28), OffsetCommit(other, 7, "", CancellationToken()))
    assert errors.keys() == {recorder.stream}
    assert "offset 28 lies below 100" in str(errors[recorder.stream])
    assert committed(recorder.servers, f"{recorder.stream}.archive", recorder.stream, other) == [-1, 7]


def test_a_commit_of_the_former_topic_that_is_answered_late_keeps_none_of_the_new_one_from_being_made(
    recorder: Recorder, committing: Committing
) -> None:
    """It was on its way when the topic was created again."""
    committing.commits.on_assigned(recorder.stream, None)
    committing.commits.on_offset_reset(recorder.stream, 0)
    committing.commit(2132)
    committing.commit(3)
    with pytest.raises(KafkaException, match="offset 2 lies below 3"):
        committing.commit(2)
    assert recorder.committed() == 3
