"""That Kafka is back is logged, whichever consumer sees it first."""

import logging
import time

import pytest

from archiver.kafka.broker_health import BrokerHealth
from tests.support.processes import eventually


def test_the_end_of_an_outage_that_an_earlier_consumer_has_logged_is_logged_once(
    kafka: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a commit from before the outage that came too late: the archiver joins the group as a new consumer."""
    caplog.set_level(logging.INFO)
    health = BrokerHealth({"bootstrap.servers": kafka}, away_since_s=time.monotonic() - 3600)

    def is_logged() -> bool:
        health.probe()
        return "answers again, after 1 h" in caplog.text

    eventually(is_logged, "the end of the outage")
    assert health.away_since_s is None
    health.probe()
    assert caplog.text.count("answers again") == 1
