"""Calls on a disk that may not answer."""

import threading

import pytest

from g3stream.service.timeouts import MonitoredDisk


def test_what_the_call_returns_or_raises() -> None:
    disk, stopping = MonitoredDisk("the disk"), threading.Event()
    assert disk.call_unless_stopped(stopping, "a call", lambda: 5, lambda _: None) == 5
    with pytest.raises(OSError, match="broken"):
        disk.call_unless_stopped(stopping, "a call", _broken, lambda _: None)
    with pytest.raises(TimeoutError, match="its own"):
        disk.call_unless_stopped(stopping, "a call", _too_late, lambda _: None)
    assert disk.problem() is None


def _broken() -> None:
    raise OSError("broken")


def _too_late() -> None:
    raise TimeoutError("its own")


def test_a_call_is_abandoned_at_a_stop_and_what_it_returns_later_is_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping, answers, released = threading.Event(), threading.Event(), threading.Event()
    got: list[int] = []

    def call() -> int:
        stopping.set()
        assert answers.wait(10)
        return 5

    def release(result: int) -> None:
        got.append(result)
        released.set()

    assert MonitoredDisk("the disk").call_unless_stopped(stopping, "the opening", call, release) is None
    assert "stopped before the opening was done" in caplog.text
    assert not got
    answers.set()
    assert released.wait(10)
    assert got == [5]
