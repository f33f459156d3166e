"""When what has failed is started again, and for how long it isn't."""

import threading
from itertools import pairwise

import pytest

from g3stream.service.supervisor import Backoff, Service, supervise

BACKOFF = Backoff(min_s=5.0, max_s=60.0, stable_s=30.0)
AT_ONCE = Backoff(min_s=0.001, max_s=0.001, stable_s=1.0)


def test_the_wait_doubles_with_each_failure_up_to_its_limit() -> None:
    delays = [0.0]
    for _ in range(6):
        delays.append(BACKOFF.delay_s(delays[-1], 0.1))
    assert delays[1:] == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]
    assert all(second >= first for first, second in pairwise(delays))


def test_what_ran_for_long_is_tried_again_soon() -> None:
    assert BACKOFF.delay_s(60.0, 30.0) == 60.0
    assert BACKOFF.delay_s(60.0, 30.1) == 5.0


def test_it_is_called_again_until_it_returns() -> None:
    failures: list[tuple[str, str]] = []
    outcomes = iter([ValueError("one"), KeyError("two"), None])

    def run_once() -> None:
        if error := next(outcomes):
            raise error

    supervise(run_once, AT_ONCE, threading.Event(), lambda error, then: failures.append((type(error).__name__, then)))
    assert failures == [("ValueError", "; trying again in 0.001 s"), ("KeyError", "; trying again in 0.001 s")]
    assert next(outcomes, "none left") == "none left"


def test_it_is_not_called_again_after_a_stop() -> None:
    stopping, failures = threading.Event(), []

    def run_once() -> None:
        stopping.set()
        raise OSError("at the stop")

    supervise(run_once, AT_ONCE, stopping, lambda _, then: failures.append(then))
    supervise(run_once, AT_ONCE, stopping, lambda _, then: failures.append(then))
    assert failures == [""]


class Flaky(Service):
    """Fails at its first run of each start, with an error that it expects or not; then it runs until a stop."""

    def __init__(self, error: Exception) -> None:
        super().__init__("flaky", AT_ONCE)
        self.runs = threading.Event()
        self._error = error
        self._fails = True
        self._stop = threading.Event()

    def run_once(self) -> None:
        self._fails = not self._fails
        if not self._fails:
            raise self._error
        self.runs.set()
        self._stop.wait()

    def interrupt(self) -> None:
        self._stop.set()

    def describe(self, error: Exception) -> str | None:
        return str(error) if isinstance(error, OSError) else None


@pytest.mark.parametrize(
    ("error", "shown", "traceback"), [(OSError("full"), "full", False), (KeyError("x"), "KeyError: 'x'", True)]
)
def test_a_service_reports_its_error_and_is_restarted(
    caplog: pytest.LogCaptureFixture, error: Exception, shown: str, traceback: bool
) -> None:
    service = Flaky(error)
    service.start()
    assert service.runs.wait(10)
    assert service.error == shown
    assert not service.join(0)
    service.stop()
    assert service.join(10)
    assert service.error is None
    assert f"flaky: {shown}; trying again in 0.001 s" in caplog.text
    assert ("Traceback" in caplog.text) is traceback

    service.runs.clear()
    service.start()
    assert service.runs.wait(10), "it can be started again"
    service.stop()
    assert service.join(10)
