"""The rates of ten minutes, and the line that they make."""

from msgspec.structs import replace

from archiver.web.now.rates import SPAN_MS, Rate, RateHistory, sparkline
from tests.unit.archiver.status.test_verdict import INGEST, NOW


def test_a_report_counts_once_and_for_ten_minutes() -> None:
    history = RateHistory()
    for _ in range(3):
        history.add([INGEST], NOW)
    later = replace(INGEST, time_ms=INGEST.time_ms + 10_000, bytes_per_s=1.0)
    history.add([later], NOW + 10_000)
    assert history.by_stream() == {"s": (Rate(INGEST.time_ms, 2e6), Rate(later.time_ms, 1.0))}
    history.add([], later.time_ms + SPAN_MS)
    assert history.by_stream() == {"s": (Rate(later.time_ms, 1.0),)}
    history.add([], later.time_ms + SPAN_MS + 1)
    assert history.by_stream() == {}


def test_the_line_is_scaled_to_its_peak() -> None:
    rates = [Rate(NOW - SPAN_MS, 0.0), Rate(NOW - SPAN_MS + 30_000, 4.0), Rate(NOW - SPAN_MS + 60_000, 2.0)]
    line = sparkline(rates, NOW)
    assert line
    assert line.peak_bytes_per_s == 4.0
    assert line.path == "M0.0 20.0L5.0 0.0L10.0 10.0"


def test_where_ingest_was_dead_the_line_is_interrupted() -> None:
    line = sparkline([Rate(NOW - 300_000, 1.0), Rate(NOW - 200_000, 1.0), Rate(NOW - 190_000, 1.0)], NOW)
    assert line
    assert line.path.count("M") == 2
    assert line.path.count("L") == 1


def test_a_stream_that_receives_nothing_has_a_line_at_the_bottom() -> None:
    line = sparkline([Rate(NOW - 20_000, 0.0), Rate(NOW - 10_000, 0.0)], NOW)
    assert line
    assert line.path == "M96.7 20.0L98.3 20.0"


def test_one_report_makes_no_line() -> None:
    assert sparkline([Rate(NOW, 1.0)], NOW) is None
