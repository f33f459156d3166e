"""Topic names: they contain the stream's name, and no hostile name is accepted."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g3stream.contract.topics import (
    FILES_TOPIC,
    FILES_TOPIC_CONFIG,
    FRAMES_TOPIC_CONFIG,
    FRAMES_TOPIC_PATTERN,
    REJECTED_TOPIC_CONFIG,
    ContractError,
    frames_topic,
    rejected_topic,
    stream_name,
    stream_of_topic,
)

STREAM_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
BAD_NAMES = ["", "-a", "_a", ".", "..", "a.b", "a/b", "../x", "a b", " a", "a\n", "\na", "a\0", "é", "١", "x" * 65]


@given(STREAM_NAMES)
def test_a_valid_name_is_returned_and_found_in_its_topic(name: str) -> None:
    assert stream_name(name) == name
    assert stream_of_topic(frames_topic(name)) == name
    assert re.match(FRAMES_TOPIC_PATTERN, frames_topic(name))
    assert len(rejected_topic(name)) <= 249, "Kafka accepts no longer name"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ContractError) as refused:
        stream_name(name)
    assert str(refused.value).isprintable()
    with pytest.raises(ContractError):
        stream_of_topic("g3.frames." + name)


@pytest.mark.parametrize("topic", ["", "g3.frames", "g3.framesx.a", FILES_TOPIC, rejected_topic("a"), "xg3.frames.a"])
def test_any_other_topic_has_no_stream(topic: str) -> None:
    with pytest.raises(ContractError):
        stream_of_topic(topic)
    assert not re.match(FRAMES_TOPIC_PATTERN, topic)


@given(st.text(max_size=80))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        assert stream_name(text) == text
    except ContractError:
        return
    assert text.isascii()
    assert 1 <= len(text) <= 64


@pytest.mark.parametrize("config", [FRAMES_TOPIC_CONFIG, REJECTED_TOPIC_CONFIG, FILES_TOPIC_CONFIG])
def test_no_topic_refuses_a_timestamp(config: Any) -> None:
    for end in ("before", "after"):
        assert config[f"message.timestamp.{end}.max.ms"] == str(2**63 - 1)


def test_rejected_frames_are_bounded_and_files_are_kept() -> None:
    assert int(REJECTED_TOPIC_CONFIG["retention.bytes"]) == 1 << 30
    assert FILES_TOPIC_CONFIG["retention.ms"] == FILES_TOPIC_CONFIG["retention.bytes"] == "-1"
