"""The world in which pages are executed: a network, a broker, a home, and a shell for each page."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from testbed.child_process import start_child_process
from tests.docs.shown_output import is_as_shown
from tests.support.processes import eventually

DIRECTORIES: Final = ("/data", "/data2", "/rebuilt", "/etc/g3")
"""Absolute paths that pages show. On a site they are below its scratch directory."""
PORT: Final = 9092
"""Where a site's broker listens, as Kafka does by default."""

_SECONDS = 300.0
_STOP_SECONDS = 120.0
_IN_ORDER: Final = (0, -15, 143)
"""Exit codes of programs that SIGTERM has stopped."""
_OURS = ("INGEST_", "ARCHIVER_", "LOGLEVEL", "KAFKA_", "XDG_", "OCS_", "PYTEST_")
_SHOWN = re.compile(rf"(?<![\w./~$}}-])({'|'.join(DIRECTORIES)})(?![\w-])")


class Site:
    """What a set-up finds, and fills. so3g: the interpreter that has so3g and sotodlib; None: not here."""

    def __init__(self, root: Path, so3g: Path | None) -> None:
        self.root = root
        self.so3g = so3g
        self.servers = f"localhost:{PORT}"
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self.environment: Mapping[str, str] = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "KAFKA_BOOTSTRAP_SERVERS": self.servers,
            "HOME": str(root / "home"),
            "XDG_CACHE_HOME": cache,  # where the testbed has its Kafka
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
        }
        (root / "home").mkdir()

    def here(self, shown: str) -> str:
        """Return a page's text with this site's paths."""
        return _SHOWN.sub(lambda match: f"{self.root}{match[1]}", shown)

    def shown(self, printed: str) -> str:
        """Return a program's output with a page's paths."""
        return printed.replace(str(self.root), "")

    @contextmanager
    def shell(self, directory: Path) -> Iterator["Shell"]:
        """Run a shell in that directory until the end of the block, when what it runs must end in order."""
        shell = Shell(self, directory)
        try:
            yield shell
            shell.stop_all()
        finally:
            shell.kill()


class Shell:
    """A shell for one page: its working directory and its variables last from command to command."""

    def __init__(self, site: Site, directory: Path) -> None:
        self._site = site
        self._scratch = Path(tempfile.mkdtemp(dir=site.root))
        self._log = (self._scratch / "output").open("w+b")
        self._bash = start_child_process(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=site.environment,
            cwd=directory,
        )
        self._running: list[Running] = []

    def run(self, command: str) -> tuple[int, str]:
        """Run a command of a page to its end; return its exit code and what it printed."""
        self._log.truncate(0)
        self._log.seek(0)
        script, code = self._scratch / "command", self._scratch / "code"
        script.write_text(self._site.here(command) + "\n")
        code.unlink(missing_ok=True)
        # The file is complete when it has its name.
        self._tell(f". {script} </dev/null; echo $? > {code}.new; mv {code}.new {code}")
        eventually(lambda: code.exists() or self._bash.poll() is not None, f"it ends: {command}", _SECONDS)
        assert code.exists(), f"the shell ended: {command}\n{self._printed()}"
        return int(code.read_text()), self._printed()

    def end_last(self, command: str) -> tuple[int, str]:
        """Run a page's `kill $!`, of what was started last; wait until that has ended, as it should."""
        last = self._running.pop()
        done = self.run(command.replace("$!", str(last.pid)))
        last.await_end((-9,) if "-9" in command else _IN_ORDER)
        return done

    def start(self, command: str) -> "Running":
        """Start a command that runs on. It gets the shell's directory and variables."""
        state = self._scratch / f"state{len(self._running)}"
        status, printed = self.run(f"{{ echo cd \"'$PWD'\"; export -p; }} > {state}")
        assert status == 0, printed
        # `exec`: so that the program itself is killed when the tests are.
        here = self._site.here(command).strip().removesuffix("&")
        assigned = re.match(r"(?:\w+=\S*\s+)*", here)
        at = assigned.end() if assigned else 0
        log = self._scratch / f"log{len(self._running)}"
        with log.open("wb") as output:
            program = start_child_process(
                ["bash", "--noprofile", "--norc", "-c", f". {state}; {here[:at]}exec {here[at:]}"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._site.environment,
            )
        running = Running(self._site, command, program, log)
        self._running.append(running)
        return running

    def stop_all(self) -> None:
        """Stop all that still runs, the latest first, by SIGTERM; fail if it doesn't end in order."""
        while self._running:
            self._running.pop().stop()

    def kill(self) -> None:
        """Kill the shell and all that still runs."""
        for running in self._running:
            running.kill()
        self._bash.kill()
        self._bash.wait()
        self._log.close()

    def _tell(self, line: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(line.encode() + b"\n")
        self._bash.stdin.flush()

    def _printed(self) -> str:
        self._log.seek(0)
        return self._site.shown(self._log.read().decode(errors="replace"))


class Running:
    """A command that runs in the background, with its output in a log."""

    def __init__(self, site: Site, command: str, program: "subprocess.Popen[bytes]", log: Path) -> None:
        self._site = site
        self._command = command
        self._program = program
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._program.pid

    @property
    def printed(self) -> str:
        """What it has printed so far."""
        return self._site.shown(self._log.read_text(errors="replace"))

    def await_ready(self, pattern: str, shown: list[str]) -> None:
        """Wait until it has printed a line with that pattern, and its output begins as it is shown."""

        def is_ready() -> bool:
            ended = self._program.poll()
            assert ended is None, f"{self._command}: ended with exit code {ended}\n{self.printed}"
            printed = self.printed
            return re.search(pattern, printed) is not None and is_as_shown(printed, shown, begins=True)

        deadline = time.monotonic() + _SECONDS
        while not is_ready():
            assert time.monotonic() < deadline, f"{self._command}: never printed {pattern!r} {shown}:\n{self.printed}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it; fail if it doesn't end in order."""
        if self._program.poll() is None:
            self._program.terminate()
        self.await_end(_IN_ORDER)

    def await_end(self, codes: tuple[int, ...]) -> None:
        """Wait until it has ended; fail if it has another exit code than these."""
        try:
            code = self._program.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._command}: still runs after a signal:\n{self.printed}") from None
        assert code in codes, f"{self._command}: ended with exit code {code}\n{self.printed}"
        assert "Traceback" not in self.printed, f"{self._command}:\n{self.printed}"

    def kill(self) -> None:
        """Kill it, if it still runs."""
        if self._program.poll() is None:
            self._program.kill()
        self._program.wait()


@contextmanager
def new_site(so3g: Path | None) -> Iterator[Site]:
    """Make a site in a scratch directory with a short path, as paths are in tables."""
    root = Path(tempfile.mkdtemp(prefix="g3-"))
    try:
        yield Site(root, so3g)
    finally:
        shutil.rmtree(root, ignore_errors=True)
