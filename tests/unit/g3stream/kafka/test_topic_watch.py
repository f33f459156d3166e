"""Topic watch: differences are logged once per change, and forgotten with the topic. No broker is used here."""

import logging

import pytest

from g3stream.contract.topic_settings import EXPECTED_FILES_TOPIC, ExpectedTopic, FoundTopic, Role, differences
from g3stream.contract.topics import frames_topic
from g3stream.kafka.topic_admin import TopicWatch

WANTED = ExpectedTopic(frames_topic("s"), Role.FRAMES)


def report(watch: TopicWatch, **config: str) -> None:
    """Report the topic as found with these settings."""
    existing = FoundTopic({0: (1,)}, (1,), {name.replace("_", "."): value for name, value in config.items()})
    watch.update(WANTED, differences(WANTED, existing, "kafka:9092"))


def test_each_difference_is_logged_once_and_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = TopicWatch({})
    for _ in range(3):
        report(watch, cleanup_policy="compact", retention_ms="1000")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    report(watch, retention_ms="1000")
    report(watch, retention_ms="2000")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "WARNING"]
    report(watch)
    report(watch)
    assert [record.getMessage() for record in caplog.records[3:]] == [
        "the topic g3.frames.s is as it should be again"
    ]


def test_what_is_no_longer_watched_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    watch = TopicWatch({})
    watch.add(EXPECTED_FILES_TOPIC)
    report(watch, cleanup_policy="compact")
    assert [difference.setting for difference in watch.all()] == ["cleanup.policy"]
    assert watch.of(WANTED.name) == watch.all()
    watch.remove(WANTED.name)
    assert watch.of(WANTED.name) == watch.all() == ()
    watch.remove(WANTED.name)
    caplog.clear()
    report(watch, cleanup_policy="compact")
    assert len(caplog.records) == 1, "a topic watched again is a new one, as it may have changed meanwhile"
