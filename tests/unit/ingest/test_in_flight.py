"""A closed InFlightBatches leaves no producer behind."""

from pathlib import Path

from g3stream.service.histogram import LatencyHistogram
from ingest.publish.in_flight import PRODUCER_CONFIG, InFlightBatches
from ingest.spool.batch import Batch, SpooledRecord
from tests.support.processes import eventually


def threads() -> int:
    """How many threads this process has, librdkafka's too."""
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_producer_is_released_with_what_is_in_flight() -> None:
    before = threads()
    in_flight = InFlightBatches(
        {"bootstrap.servers": "127.0.0.1:1", **PRODUCER_CONFIG}, {False: "t", True: "r"}, LatencyHistogram()
    )
    in_flight.send(Batch(0, [SpooledRecord(False, 7, [], b"one"), SpooledRecord(False, 8, [], b"two")]), True)
    in_flight.poll(0)
    assert in_flight.bytes
    in_flight.close()
    del in_flight
    eventually(lambda: threads() <= before, "its threads have ended", 5)
