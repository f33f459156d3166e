"""Stop signals: they are obeyed whatever locks the main thread holds, and however many arrive."""

import subprocess
import sys

_BEGIN = """
import os, signal, threading
from g3stream.service.stop_signals import StopSignals
over = threading.Event()
needed = threading.Lock()
def stop():
    with needed:
        over.set()
def kill(number):
    os.kill(os.getpid(), number)
"""

_WHILE_ITS_LOCK_IS_HELD = """
with StopSignals() as signals:
    signals.on_stop(stop)
    with needed:  # as an Event holds its own within set(), wait() and is_set()
        kill(signal.SIGTERM)
        kill(signal.SIGINT)
    over.wait()
print("stopped in order")
"""

_WHILE_THE_LOG_IS_LOCKED = """
import logging
logging.basicConfig()
with StopSignals() as signals:
    signals.on_stop(stop)
    handler = logging.getLogger().handlers[0]
    with handler.lock, needed:
        kill(signal.SIGTERM)
    over.wait()
print("stopped in order")
"""

_BEFORE_ON_STOP = """
read, reads = os.read, threading.Semaphore(0)
def read_and_count(*arguments):
    reads.release()
    return read(*arguments)
os.read = read_and_count
with StopSignals() as signals:
    reads.acquire()
    kill(signal.SIGTERM)
    reads.acquire()  # the first was read; the thread waits for another
    signals.on_stop(over.set)
    over.wait()
print("stopped in order")
"""

_MORE_THAN_THE_PIPE_HOLDS = """
gate = threading.Event()
with StopSignals() as signals:
    signals.on_stop(gate.wait)
    for _ in range(70_000):
        kill(signal.SIGTERM)
    gate.set()
    signals.on_stop(over.set)
    over.wait()
print("stopped in order")
"""

_WHILE_IT_ENDS = """
import atexit
class Last:
    def __del__(self):
        kill(signal.SIGTERM)
        kill(signal.SIGINT)
with StopSignals() as signals:
    signals.on_stop(over.set)
    kill(signal.SIGTERM)
    over.wait()
atexit.register(kill, signal.SIGINT)
last = Last()
last.itself = last  # so it is deleted late, after the interpreter has restored its handlers
print("stopped in order", flush=True)
"""

_ANOTHER_SIGNAL = """
signal.signal(signal.SIGUSR1, lambda *_: None)
stops = []
with StopSignals() as signals:
    signals.on_stop(lambda: (stops.append(1), over.set()))
    kill(signal.SIGUSR1)
    kill(signal.SIGTERM)
    over.wait()
assert len(stops) == 1, stops
print("stopped in order")
"""


def stops_in_order(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped in order\n", "")


def test_a_signal_while_the_main_thread_holds_a_lock_that_stopping_needs() -> None:
    stops_in_order(_WHILE_ITS_LOCK_IS_HELD)


def test_a_signal_during_a_log_line() -> None:
    stops_in_order(_WHILE_THE_LOG_IS_LOCKED)


def test_a_signal_before_on_stop_is_remembered() -> None:
    stops_in_order(_BEFORE_ON_STOP)


def test_more_signals_than_the_pipe_holds() -> None:
    stops_in_order(_MORE_THAN_THE_PIPE_HOLDS)


def test_a_signal_while_the_interpreter_ends_does_not_change_the_exit_code() -> None:
    stops_in_order(_WHILE_IT_ENDS)


def test_other_signals_stop_nothing() -> None:
    stops_in_order(_ANOTHER_SIGNAL)
