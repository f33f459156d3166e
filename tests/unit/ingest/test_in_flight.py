"""A flight that is over leaves no producer behind."""

from pathlib import Path

from g3stream.service.histogram import Latency
from ingest.publish.in_flight import PRODUCER_CONFIG, Flight
from ingest.spool.batch import Bundle, Spooled
from tests.support.processes import eventually


def threads() -> int:
    """How many this process has, librdkafka's too."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_producer_is_let_go_of_with_what_is_on_its_way() -> None:
    before = threads()
    flight = Flight({"bootstrap.servers": "127.0.0.1:1", **PRODUCER_CONFIG}, {False: "t", True: "r"}, Latency())
    flight.send(Bundle(0, [Spooled(False, 7, [], b"one"), Spooled(False, 8, [], b"two")]), True)
    flight.serve(0)
    assert flight.bytes
    flight.close()
    del flight
    eventually(lambda: threads() <= before, "its threads have ended", 5)
