"""The page of the demo's night: `archiver web`. A demo goes on without it."""

import time
from pathlib import Path
from typing import Final

from testbed.child_process import HOST, free_port, is_free
from testbed.demo.program import Program

_PORT: Final = 8780
_START_SECONDS: Final = 20.0
_THERE: Final = "the page is at "


class Page(Program):
    """The process of the page. servers: Kafka's, which need not run yet. log: its log file."""

    def __init__(self, servers: str, log: Path) -> None:
        port = _PORT if is_free(_PORT) else free_port()
        super().__init__("web", ["archiver", "web", "--http", str(port), "--bootstrap-servers", servers], log)
        self._url = f"http://{HOST}:{port}/"

    def await_start(self) -> str:
        """Wait until it is there; return its URL in a sentence, or why there is no page."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.has_ended and time.monotonic() < deadline:
            if _THERE in self._text():
                return f"watch it on the page: {self._url}"
            time.sleep(0.05)
        why = (self._text().strip() or f"it takes longer than {_START_SECONDS:g} s").splitlines()[-1]
        return f"there is no page:\n{why.rpartition('error: ')[2]}"

    def _text(self) -> str:
        return self.log.read_text(errors="replace")


def describe_night(archiver: str, data_dir: str, begin_s: float, end_s: float) -> str:
    """Return how to look at a recorded night. archiver: how it is called. begin_s, end_s: since the epoch."""
    night = time.strftime("%Y-%m-%d", time.gmtime(begin_s - 12 * 3600))
    part = f"from={int(begin_s // 60 * 60)}&to={int(-(-end_s // 60) * 60)}"
    return f"""
Look at this night on the page, for which Kafka isn't needed:
  {archiver} web --data-dir {data_dir}
  http://{HOST}:{_PORT}/night/{night}?{part}"""
