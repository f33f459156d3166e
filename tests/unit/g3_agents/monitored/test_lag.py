"""When the reader of monitored channels skips to the newest data."""

from g3_agents.monitored.lag import MAX_GROWTH_MS, Lag


def test_a_reader_that_is_ever_later_falls_behind() -> None:
    lag = Lag()
    assert not lag.is_growing(1_000, 1_100)
    assert not lag.is_growing(2_000, 2_100 + MAX_GROWTH_MS)
    assert lag.is_growing(3_000, 3_101 + MAX_GROWTH_MS)


def test_what_comes_late_by_itself_is_not_behind() -> None:
    lag = Lag()
    # From ingest's spool, after an hour without Kafka.
    assert not any(lag.is_growing(1_000 + 1_000 * k, 3_600_000 + 10 * k) for k in range(3_600))
    assert lag.is_growing(3_601_000, 3_601_000 + 36_000 + MAX_GROWTH_MS)
