"""The recorder's side of monitored channels: runs their process while channels are chosen, and keeps its reports."""

import argparse
import json
import logging
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Final

from g3_agents.monitored.choice import MAX_CHANNELS, Choice
from g3_agents.monitored.so3g import missing_so3g
from g3stream.host.printable import printable
from g3stream.service.supervisor import Backoff, Service

log = logging.getLogger(__name__)

_BACKOFF: Final = Backoff(min_s=1.0, max_s=60.0, stable_s=60.0)
_MAX_MESSAGES: Final = 60 * MAX_CHANNELS
"""For the feed: a minute's, while OCS can't be reached. Older ones are dropped."""


class MonitorError(Exception):
    """Monitoring can't begin, or has ended; the message says why."""


class MonitoredChannels(Service):
    """The process of a stream's monitored channels, which runs while some are chosen.

    Recording has no part in it: frames are read from Kafka and averaged there. This only passes on what it writes.
    options: those of the agent.
    """

    def __init__(self, options: argparse.Namespace, stream: str) -> None:
        super().__init__("monitored channels", _BACKOFF)
        self._options = options
        self._stream = stream
        self._choice = Choice(target_rate_hz=options.target_rate)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._messages: deque[dict[str, Any]] = deque(maxlen=_MAX_MESSAGES)
        self._report: Mapping[str, Any] = {}

    def choose(self, values: Mapping[str, Any]) -> None:
        """Monitor other `channels`, or none, or with another `target_rate`. Raises ChoiceError. For one thread."""
        choice = self._choice.changed(values)
        self.stop()
        self.join()
        self._choice, self._report, self.error = choice, {}, None
        if choice.channels:
            log.info("monitored channels: %s", ", ".join(choice.names))
            self.start()

    def take_messages(self) -> Sequence[dict[str, Any]]:
        """Return the messages for the feed that have come since the last call."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def session_data(self) -> dict[str, Any]:
        """Return what session.data says of it."""
        report, last_us = self._report, self._report.get("last_time_us")
        return {
            "channels": list(self._choice.channels),
            "target_rate": self._choice.target_rate_hz,
            "averages": report.get("averages", 0),
            "last_time": None if last_us is None else last_us / 1_000_000,
            "unknown": report.get("unknown", []),
            "skips": report.get("skips", 0),
            "undecodable": report.get("undecodable", 0),
            "problem": self.error or report.get("problem") or report.get("undecodable_why"),
        }

    def run_once(self) -> None:
        """Run the process until it ends. Raises MonitorError, OSError."""
        if missing := missing_so3g(self._options.so3g_python):
            raise MonitorError(missing)
        # In a session of its own, as a Ctrl-C in the terminal is only for this process. It ends when its stdin does.
        command, pipe, failed = [sys.executable, "-m", "g3_agents.monitored.process"], subprocess.PIPE, None
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True) as process:
            assert process.stdin
            assert process.stdout
            with self._lock:
                self._process = process
            try:
                if not self.stop_requested.is_set():
                    process.stdin.write(json.dumps(self._request()).encode() + b"\n")
                    process.stdin.flush()
                    failed = self._read(process.stdout)
            finally:
                with self._lock:
                    self._process = None
                    process.kill()
        if not self.stop_requested.is_set():
            raise MonitorError(failed or f"their process has ended with exit code {process.returncode}")

    def interrupt(self) -> None:
        """End the process. For any thread."""
        with self._lock:
            if self._process:
                self._process.kill()

    def describe(self, error: Exception) -> str | None:
        """Return an expected error in words."""
        return str(error) if isinstance(error, MonitorError | OSError) else None

    def _read(self, lines: IO[bytes]) -> str | None:
        """Keep what the process reports until it ends; return why it did, as far as it has said so."""
        failed = None
        for line in lines:
            with suppress(json.JSONDecodeError):  # the last line, if it was killed in the middle
                report = json.loads(line)
                if report.get("skips", 0) > self._report.get("skips", 0):
                    log.warning("monitored channels: they fell behind, and have skipped to the newest data")
                self._messages.extend(report.pop("messages"))
                failed = printable(report["failed"]) if "failed" in report else None
                self._report, self.error = report, None
        return failed

    def _request(self) -> dict[str, Any]:
        return {
            "stream": self._stream,
            "channels": self._choice.channels,
            "target_rate": self._choice.target_rate_hz,
            "so3g_python": self._options.so3g_python,
            "bootstrap_servers": self._options.bootstrap_servers,
            "kafka_config": self._options.kafka_config,
        }
