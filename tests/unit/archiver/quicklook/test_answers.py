"""What the quick-look process answers: its JSON, metrics and health; and which stream is next."""

from dataclasses import replace

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from archiver.quicklook.answers import Answer, answer
from archiver.quicklook.look import MAX_SHOWN, AnswerError, look_from
from archiver.quicklook.metrics import metrics, problems, warnings
from archiver.quicklook.so3g_decoder.look import numbers
from archiver.quicklook.so3g_decoder.samples import join
from archiver.quicklook.state import DecoderStatus, State, next_stream, pause_s, retry_s
from tests.unit.archiver.quicklook.known import NOW_MS, STREAM, look_at, state_with, two_gaps


def answered(state: State, *channels: str) -> Answer:
    found = answer(state, STREAM, channels, NOW_MS)
    assert found is not None
    return msgspec.json.decode(msgspec.json.encode(found), type=Answer)


def values(state: State) -> dict[str, float]:
    """Return the metrics of the stream, and those without a stream, without the process's own."""
    families = text_string_to_metric_families(metrics(state, NOW_MS).decode())
    return {
        sample.name.removeprefix("g3_quicklook_"): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("g3_quicklook_") and sample.labels in ({}, {"stream": STREAM})
    }


def test_a_look_is_answered_with_its_numbers_and_some_live_channels() -> None:
    look = answered(state_with(look_at(two_gaps()))).look
    assert look is not None
    assert (look.channels, look.live_channels, look.missing_samples, look.all_gaps) == (8, 7, 8, 2)
    assert [it.missing for it in look.gaps] == [1, 7]
    assert look.noise is not None
    assert look.noise.lower_quartile <= look.noise.median <= look.noise.upper_quartile
    assert len(look.shown) == 6
    assert "r0003" not in [it.name for it in look.shown]
    assert look.white_noise["r0003"] is None
    assert len(look.white_noise) == 8


def test_channels_may_be_chosen() -> None:
    look = answered(state_with(look_at(two_gaps())), "r0003", "r0001", "r9999").look
    assert look is not None
    assert [(it.name, it.is_live) for it in look.shown] == [("r0003", False), ("r0001", True)]
    assert look.unknown_channels == ["r9999"]
    many = answered(state_with(look_at(two_gaps())), *["r0001"] * 100).look
    assert many is not None
    assert len(many.shown) == MAX_SHOWN


def test_a_stream_that_is_not_looked_at_has_no_answer() -> None:
    assert answer(state_with(), "another", [], NOW_MS) is None


def test_before_kafka_has_answered_any_stream_may_exist_and_the_reason_is_given() -> None:
    found = answer(State(10, 30, 1, kafka_error="Kafka: no answer", kafka_since_ms=2), "any", [], NOW_MS)
    assert found is not None
    assert (found.look, found.error, found.error_since_ms) == (None, "Kafka: no answer", 2)


def test_the_last_look_stays_with_the_reason_why_there_is_no_newer_one() -> None:
    state = state_with(look_at(two_gaps()), error="it has ended", error_since_ms=NOW_MS - 500)
    found = answered(state)
    assert found.look is not None
    assert (found.error, found.error_since_ms) == ("it has ended", NOW_MS - 500)
    without_kafka = answered(replace(state, kafka_error="Kafka: no answer", kafka_since_ms=3))
    assert (without_kafka.error, without_kafka.error_since_ms) == ("Kafka: no answer", 3)


def test_metrics_are_those_of_the_look() -> None:
    found = values(state_with(look_at(two_gaps(), undecodable=2)))
    assert (found["channels"], found["live_channels"], found["missing_samples"]) == (8, 7, 8)
    assert (found["undecodable_frames"], found["age_seconds"], found["failed"]) == (2, 2, 0)
    assert found["sample_rate_hertz"] == pytest.approx(200, rel=1e-4)
    quartiles = [found[f"noise_{name}_rad_per_sqrt_hz"] for name in ("lower_quartile", "median", "upper_quartile")]
    assert quartiles == sorted(quartiles)
    assert quartiles[0] > 0


def test_without_a_look_there_are_no_numbers_of_one() -> None:
    found = values(replace(state_with(error="no"), decoder=DecoderStatus(restarts=3)))
    assert found["decoder_restarts_total"] == 3
    assert (found["decoder_up"], found["failed"]) == (0, 1)
    assert not {"channels", "live_channels", "missing_samples", "age_seconds"} & set(found)


def test_it_is_unhealthy_while_kafka_or_the_decoder_is_down_for_long() -> None:
    healthy = state_with(look_at(two_gaps()))
    assert [*problems(healthy, NOW_MS)] == []
    down = replace(healthy, decoder=DecoderStatus(problem="the decoder: it has ended", since_ms=NOW_MS))
    assert [*problems(down, NOW_MS)] == []
    assert [*problems(down, NOW_MS + 61_000)] == ["the decoder: it has ended"]
    assert [*problems(replace(healthy, kafka_error="Kafka: no answer"), NOW_MS)] == ["Kafka: no answer"]
    assert [*warnings(state_with(error="bad frames"))] == [f"{STREAM}: bad frames"]


def test_the_decoders_answer_is_checked() -> None:
    samples = join(two_gaps(), 10)
    assert samples is not None
    fields, parts = numbers(samples)
    fields |= {"undecodable": 0, "undecodable_why": None}
    look_from(fields, parts, 0)
    wrongs: dict[str, object] = {"live": [True], "noise": [], "median": [], "samples": "many", "channels": ["r0000"]}
    for name, wrong in wrongs.items():
        with pytest.raises(AnswerError):
            look_from({**fields, name: wrong}, parts, 0)
    for wrong_parts in ([], parts[:1], [*parts, b""], [parts[0], parts[1][:-2]]):
        with pytest.raises(AnswerError):
            look_from(fields, wrong_parts, 0)


def test_the_stream_that_is_due_first_is_next_and_looks_take_a_share_of_the_time() -> None:
    assert next_stream({}, []) is None
    assert next_stream({"a": 7.0, "b": 5.0}, ["a", "b"]) == "b"
    assert next_stream({"a": 7.0, "b": 5.0}, ["a", "b", "c"]) == "c"
    assert next_stream({"a": 7.0, "gone": 1.0}, ["a"]) == "a"
    assert pause_s(1.0, 0.2) == pytest.approx(4.0)
    assert pause_s(60.0, 0.2) == 8


def test_a_stream_at_which_the_decoder_dies_is_looked_at_ever_more_rarely() -> None:
    assert [retry_s(30.0, failures) for failures in (1, 2, 3)] == [60, 120, 240]
    assert retry_s(30.0, 10_000) == 900
    assert retry_s(3600.0, 1) == 3600
