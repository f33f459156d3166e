"""What is known of topics: logged once per change, and forgotten with the topic. Kafka isn't asked here."""

import logging

import pytest

from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC, FoundTopic, differences, expected_frames_topic
from g3stream.kafka.topic_watch import TopicWatch

WANTED = expected_frames_topic("s")


def note(watch: TopicWatch, **config: str) -> None:
    """It was found with these settings."""
    as_it_is = FoundTopic({0: (1,)}, (1,), {name.replace("_", "."): value for name, value in config.items()})
    watch.update(WANTED, differences(WANTED, as_it_is, "kafka:9092"))


def test_each_difference_is_logged_once_and_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = TopicWatch({})
    for _ in range(3):
        note(watch, cleanup_policy="compact", retention_ms="1000")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    note(watch, retention_ms="1000")
    note(watch, retention_ms="2000")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "WARNING"]
    note(watch)
    note(watch)
    assert [record.getMessage() for record in caplog.records[3:]] == [
        "the topic g3.frames.s is as it should be again"
    ]


def test_what_is_no_longer_watched_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    watch = TopicWatch({})
    watch.add(EXPECTED_FILES_TOPIC)
    note(watch, cleanup_policy="compact")
    assert [difference.setting for difference in watch.all()] == ["cleanup.policy"]
    assert watch.of(WANTED.name) == watch.all()
    watch.remove(WANTED.name)
    assert watch.of(WANTED.name) == watch.all() == ()
    watch.remove(WANTED.name)
    caplog.clear()
    note(watch, cleanup_policy="compact")
    assert len(caplog.records) == 1, "it is another one's, that may have been watched elsewhere meanwhile"
