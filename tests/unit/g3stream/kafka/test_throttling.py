"""What is made of Kafka's quotas: whether it is said, for how long, and whether clients can bear it."""

import pytest
from confluent_kafka import ThrottleEvent

from g3stream.kafka.throttling import LONG_TIMEOUT_MS, RECENT_SECONDS, Throttling

NOW = 1000.0


def of_archiver(**config: object) -> Throttling:
    return Throttling("consumer_byte_rate", {name.replace("_", "."): value for name, value in config.items()})


def test_never_throttled_nothing_is_said() -> None:
    throttling = of_archiver()
    assert throttling.problem(NOW) is None
    assert not throttling.needs_long_timeout
    assert throttling.client_config == {"throttle_cb": throttling.on_throttle}


def test_it_is_a_problem_while_it_lasts_and_a_while_after() -> None:
    throttling = of_archiver()
    throttling.add("broker", 9.0, NOW)
    throttling.add("broker", 0.0, NOW + 9)  # not any more
    for at in (NOW, NOW + 9, NOW + 9 + RECENT_SECONDS - 1):
        assert throttling.problem(at) == "Kafka throttles us, by 9.0 s lately: raise the quota consumer_byte_rate"
    assert throttling.problem(NOW + 9 + RECENT_SECONDS) is None
    assert throttling.total_s == 9.0


def test_what_nobody_notices_is_counted_only() -> None:
    throttling = of_archiver()
    throttling.add("broker", 0.5, NOW)
    assert throttling.problem(NOW) is None
    assert throttling.total_s == 0.5


@pytest.mark.parametrize(("seconds", "too_long"), [(1.9, False), (2.1, True)])
def test_clients_are_made_patient_once_if_it_takes_most_of_their_timeout(seconds: float, too_long: bool) -> None:
    throttling = of_archiver()
    throttling.add("broker", seconds, NOW)
    assert throttling.needs_long_timeout == too_long
    throttling.use_long_timeout()
    assert not throttling.needs_long_timeout
    assert throttling.client_config["socket.timeout.ms"] == LONG_TIMEOUT_MS
    throttling.add("broker", 50.0, NOW)
    assert not throttling.needs_long_timeout, "nothing would help"


def test_a_timeout_that_the_user_has_set_is_counted_with() -> None:
    throttling = of_archiver(socket_timeout_ms="30000")
    throttling.add("broker", 9.0, NOW)
    assert not throttling.needs_long_timeout
    assert "socket.timeout.ms" not in throttling.client_config


def test_it_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    throttling = of_archiver()
    for second in range(0, 119, 10):
        throttling.add("broker", 9.0, NOW + second)
    assert len(caplog.records) == 2
    throttling.on_throttle(ThrottleEvent("broker", 1, 9.0))
    assert throttling.total_s == pytest.approx(13 * 9.0)
