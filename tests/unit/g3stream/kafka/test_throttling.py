"""Throttling by Kafka's quotas: when it is reported, and when clients need the long timeout."""

import pytest
from confluent_kafka import ThrottleEvent

from g3stream.kafka.throttling import LONG_TIMEOUT_MS, RECENT_SECONDS, Throttling

NOW = 1000.0


def of_archiver(**config: object) -> Throttling:
    return Throttling("consumer_byte_rate", {name.replace("_", "."): value for name, value in config.items()})


def test_a_client_that_was_never_throttled_has_no_problem() -> None:
    throttling = of_archiver()
    assert throttling.problem(NOW) is None
    assert not throttling.needs_long_timeout
    assert throttling.client_config == {"throttle_cb": throttling.on_throttle}


def test_throttling_is_a_problem_while_it_lasts_and_shortly_after() -> None:
    throttling = of_archiver()
    throttling.add("broker", 9.0, NOW)
    throttling.add("broker", 0.0, NOW + 9)  # no longer throttled
    for at in (NOW, NOW + 9, NOW + 9 + RECENT_SECONDS - 1):
        assert (
            throttling.problem(at)
            == "Kafka throttles this program, by 9.0 s recently: raise the quota consumer_byte_rate"
        )
    assert throttling.problem(NOW + 9 + RECENT_SECONDS) is None
    assert throttling.total_s == 9.0


def test_short_throttling_is_only_counted() -> None:
    throttling = of_archiver()
    throttling.add("broker", 0.5, NOW)
    assert throttling.problem(NOW) is None
    assert throttling.total_s == 0.5


@pytest.mark.parametrize(("seconds", "too_long"), [(1.9, False), (2.1, True)])
def test_clients_get_the_long_timeout_once_if_throttling_takes_most_of_theirs(seconds: float, too_long: bool) -> None:
    throttling = of_archiver()
    throttling.add("broker", seconds, NOW)
    assert throttling.needs_long_timeout == too_long
    throttling.use_long_timeout()
    assert not throttling.needs_long_timeout
    assert throttling.client_config["socket.timeout.ms"] == LONG_TIMEOUT_MS
    throttling.add("broker", 50.0, NOW)
    assert not throttling.needs_long_timeout, "no longer timeout would help"


def test_a_timeout_set_by_the_operator_is_respected() -> None:
    throttling = of_archiver(socket_timeout_ms="30000")
    throttling.add("broker", 9.0, NOW)
    assert not throttling.needs_long_timeout
    assert "socket.timeout.ms" not in throttling.client_config


def test_throttling_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    throttling = of_archiver()
    for second in range(0, 119, 10):
        throttling.add("broker", 9.0, NOW + second)
    assert len(caplog.records) == 2
    throttling.on_throttle(ThrottleEvent("broker", 1, 9.0))
    assert throttling.total_s == pytest.approx(13 * 9.0)
