"""Which lines about something that keeps failing are written."""

from g3stream.log.throttle import LogThrottle


def test_the_first_line_is_written_and_then_one_in_each_interval() -> None:
    throttle = LogThrottle(60.0)
    assert [now for now in range(0, 200, 7) if throttle.due(float(now))] == [0, 63, 126, 189]


def test_another_text_is_written_at_once_but_two_that_alternate_no_more_often() -> None:
    throttle = LogThrottle(60.0)
    written = [(now, key) for now in range(0, 130, 10) for key in ("a", "b") if throttle.due(float(now), key)]
    assert written == [(now, key) for now in (0, 60, 120) for key in ("a", "b")]


def test_that_it_works_again_is_worth_a_line_if_a_failure_was() -> None:
    throttle = LogThrottle(60.0)
    assert not throttle.reset()
    assert throttle.due(0.0)
    assert not throttle.due(1.0)
    assert throttle.reset()
    assert not throttle.reset()
    assert throttle.due(2.0), "the next failure is another one"
