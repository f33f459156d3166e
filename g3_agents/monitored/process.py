"""The process that publishes monitored channels: reads a stream from Kafka, has it decoded, and averages it.

The recorder starts it as `python -m g3_agents.monitored.process` (service.py), and writes a line of JSON to its
stdin: stream, channels, target_rate, so3g_python, bootstrap_servers, kafka_config. It ends when stdin does. Once
decoder and Kafka have answered, it writes a line of JSON to its stdout each second: the `messages` for the feed, and
how it does (`Report`). It tries nothing twice: at an error it ends, with `failed`, which says why; the recorder
starts it again, and it begins with the newest data.
"""

import json
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any, Final

import msgspec

import g3stream
from archiver.quicklook.decoder_process import DecoderError, DecoderProcess
from archiver.quicklook.look import AnswerError
from g3_agents.monitored.averages import Average, Averager, feed_messages, frame_sums
from g3_agents.monitored.choice import Choice
from g3_agents.monitored.lag import Lag
from g3_agents.monitored.so3g import decoding_python
from g3stream.frame_format.layout import FRAME_TYPES
from g3stream.host.environment import now_ms
from g3stream.service.process_exit import end_process

_NICENESS: Final = 10
"""What records on this host comes first; the decoder inherits it."""
_REPORT_S: Final = 1.0
_MAX_WAITING: Final = 10_000
"""Averages that the recorder has not read yet."""
_SCAN: Final = FRAME_TYPES["Scan"]


class Report(msgspec.Struct):
    """How it does."""

    averages: int = 0
    """How many were made of each channel."""
    last_time_us: int | None = None
    """The time of the last one, since the epoch."""
    unknown: list[str] = []
    """Chosen channels that the last frame doesn't have."""
    skips: int = 0
    """How often it has skipped to the newest data, as it had fallen behind."""
    undecodable: int = 0
    """Frames."""
    undecodable_why: str | None = None
    """Of the last frame; None if it was decoded."""
    problem: str | None = None
    """Why nothing arrives from Kafka at present."""


class Monitor:
    """Reader of a stream's channels. stdout: where it reports."""

    def __init__(self, request: dict[str, Any], stdout: IO[bytes]) -> None:
        self._stream: str = request["stream"]
        self._kafka = {name: request[name] for name in ("bootstrap_servers", "kafka_config")}
        self._choice = Choice(tuple(request["channels"]), request["target_rate"])
        python = decoding_python(request["so3g_python"])
        self._decoder = DecoderProcess(python, clock=time.monotonic, now_ms=now_ms)
        self._waiting: deque[Average] = deque(maxlen=_MAX_WAITING)
        self._report = Report()
        self._problem: Callable[[], str | None] = lambda: None
        self._stdout = stdout
        self._lock = threading.Lock()

    def run(self) -> None:
        """Read until an error. Raises G3StreamError, DecoderError, AnswerError."""
        self._ask([])  # it takes seconds to start: before there are frames that wait
        reports = threading.Thread(target=self._report_for_ever, daemon=True)
        while True:
            with g3stream.records(self._stream, since="now", follow=True, **self._kafka) as records:
                self._problem = lambda: records.problem
                if not reports.is_alive():
                    reports.start()
                self._read(records)

    def report(self, failed: str | None = None) -> None:
        """Write a line with what is new. failed: why it ends. For any thread. Raises OSError."""
        with self._lock:
            averages = [self._waiting.popleft() for _ in range(len(self._waiting))]
            problem = self._problem()
            self._report.problem = problem and f"Kafka: {problem}"
            line = {**msgspec.to_builtins(self._report), "messages": list(feed_messages(averages))}
            self._stdout.write(json.dumps(line if failed is None else {**line, "failed": failed}).encode() + b"\n")
            self._stdout.flush()

    def _report_for_ever(self) -> None:
        with suppress(OSError):  # nobody reads it any more
            while True:
                time.sleep(_REPORT_S)
                self.report()
        end_process(0)

    def _read(self, records: Any) -> None:
        """Read until it falls behind."""
        lag, averager, report = Lag(), Averager(self._choice.period_us), self._report
        for record in records:
            if record.headers.type != _SCAN:
                continue
            if lag.is_growing(record.time_ms, now_ms()):
                report.skips += 1
                return
            [frame] = frame_sums(self._ask([record.value]), 1)
            report.undecodable_why = frame.why
            if frame.why is not None:
                report.undecodable += 1
                continue
            report.unknown = [name for name in self._choice.names if name not in frame.names]
            for average in averager.add(frame):
                report.averages += 1
                report.last_time_us = average.time_us
                self._waiting.append(average)

    def _ask(self, frames: list[bytes]) -> dict[str, Any]:
        fields = {"channels": self._choice.names, "period_us": self._choice.period_us}
        return self._decoder.ask(fields, frames)[0]


def main() -> None:
    """Run until stdin ends, or an error."""
    request = json.loads(sys.stdin.buffer.readline())
    logging.disable()  # what matters is reported
    with suppress(OSError):
        os.nice(_NICENESS)
    monitor = Monitor(request, sys.stdout.buffer)
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        monitor.run()
    except (g3stream.G3StreamError, DecoderError, AnswerError) as error:
        with suppress(OSError):
            monitor.report(failed=str(error))
    end_process(1)


def _end_with_stdin() -> None:
    sys.stdin.buffer.read()
    end_process(0)


if __name__ == "__main__":
    main()
