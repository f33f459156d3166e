"""The feed with --since: each client gets the stream from then on, by a reader of its own, at its own pace."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from archiver.relay.client import Client, Reason
from archiver.relay.reading import StreamReading, frame_of


class HistoryFeed:
    """Reads for each client in a thread: a record once the one before has been sent.

    open_reading: returns a new reader of the stream from that time on.
    """

    def __init__(self, open_reading: Callable[[], StreamReading], max_clients: int) -> None:
        self._open_reading = open_reading
        self._readings: set[StreamReading] = set()
        # Two a client: one reads, one closes the reader, which takes a while.
        self._threads = ThreadPoolExecutor(2 * max_clients, "history")
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def problem(self) -> str | None:
        """Why Kafka doesn't answer one of the readers at present; None if it does. For any thread."""
        return next((why for reading in list(self._readings) if (why := reading.problem)), None)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note the loop in which clients are served."""
        self._loop = loop

    async def serve(self, client: Client) -> Reason:
        """Send to a client until it leaves. Raises Dropped."""
        assert self._loop
        reading = self._open_reading()
        records = reading.records()
        self._readings.add(reading)
        try:
            while (record := await self._loop.run_in_executor(self._threads, next, records, None)) is not None:
                frame = frame_of(record)
                if frame and client.thinning.sends(frame, time.monotonic()):
                    await client.send([frame.data])
            return Reason.FAILED
        finally:
            self._readings.discard(reading)
            self._threads.submit(reading.close)
