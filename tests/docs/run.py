"""Does what a page shows, in order, and compares what is printed with what is shown."""

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.docs.elsewhere import where_executed
from tests.docs.pages import Command, Program, Step, WrittenFile
from tests.docs.shown_output import is_as_shown
from tests.docs.site import Running, Shell, Site

_ENDS_AT_ONCE = re.compile(r"--(check-config|help|version|print-completion|dry-run)\b|[|]")
_RUNS_ON: Final = (
    (r"(g3-)?ingest\b", r": from .* to Kafka"),
    (r"(g3-)?archiver (run\b|--)", "recording to"),
    (r"(g3-)?archiver web\b", "the page is at"),
    (r"(g3-)?archiver relay\b", "is served at"),
    (r"(g3-)?archiver quicklook\b", "looks are at"),
    (r"(g3-)?archiver .*--(follow|watch)\b", ""),
    (r"python3? -m testbed\.kafka\b", "listens on"),
    (r"python3? -m testbed\.smurf .*(--loop|--alive)\b", ""),
)
"""Commands that run until they are stopped, and what their log says when they are ready."""
_LOOKS = re.compile(
    r"(g3-)?archiver (status|info|files|verify|tail|catalog)\b|"
    r"(curl|ls|find|cat|head|tail|grep|jq|sqlite3|sha256sum|du)\b"
)
"""Commands that change nothing, so they can be repeated until they show what is expected."""
_LOOK_SECONDS = 120.0
_ENDS_LAST = re.compile(r"kill (-9 )?\$!$")


def executed(steps: Sequence[Step], page: str) -> list[Step]:
    """Return the steps that are executed here, not by a test elsewhere."""
    return [step for step in steps if isinstance(step, WrittenFile) or not where_executed(step.text, page)]


def execute(page: str, steps: Sequence[Step], site: Site, directory: Path) -> None:
    """Do these steps of a page in an empty directory; fail where something isn't as shown."""
    steps = executed(steps, page)
    codes = {step.line: _code_shown_after(steps, number) for number, step in enumerate(steps)}
    with site.shell(directory) as shell:
        for step in steps:
            where = f"{page}:{step.line}"
            if isinstance(step, WrittenFile):
                path = directory / site.here(step.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(site.here(step.text))
            elif isinstance(step, Program):
                _run_program(where, step, site, shell, directory)
            elif _is_exit_code(step):
                continue  # compared with the command before
            elif ready := _ready_line(step.text):
                _start(where, shell, step, ready[0])
            else:
                _run(where, shell, step, codes[step.line])


def _run(where: str, shell: Shell, command: Command, code: int) -> None:
    deadline = time.monotonic() + (_LOOK_SECONDS if _LOOKS.match(command.text) else 0)
    while True:
        found, printed = shell.end_last(command.text) if _ENDS_LAST.match(command.text) else shell.run(command.text)
        if found == code and is_as_shown(printed, command.output):
            break
        if time.monotonic() >= deadline:
            shown = "\n".join(command.output)
            what = f"exit code {found}, shown is {code}\n--- printed\n{printed}--- shown\n{shown}"
            raise AssertionError(f"{where}: $ {command.text}\n{what}")
        time.sleep(0.5)
    print(f"{where}: $ {command.text}\n{printed}")
    assert "Traceback (most recent call last)" not in printed


def _start(where: str, shell: Shell, command: Command, ready: str) -> Running:
    print(f"{where}: $ {command.text} &")
    output = list(command.output)
    interrupted = bool(output) and output[-1].strip() == "^C"
    running = shell.start(command.text)
    running.await_ready(ready, output[:-1] if interrupted else output)
    if interrupted:
        running.stop()
    return running


def _run_program(where: str, program: Program, site: Site, shell: Shell, directory: Path) -> None:
    name = f"example-{program.line}.py"
    (directory / name).write_text(site.here(program.text))
    python = str(site.so3g) if program.needs_so3g else "python"
    command = Command(program.line, f"{python} {directory / name}", program.output)
    if re.search(r"follow=True|while True:", program.text):
        _start(where, shell, command, r"\S")
    else:
        _run(where, shell, command, 0)


def _ready_line(command: str) -> tuple[str] | None:
    """Return the pattern of the line that such a program logs when it is ready; None: it ends by itself."""
    text = re.sub(r"^(\w+=\S*\s+)*", "", command.replace("\\\n", " "))
    if _ENDS_AT_ONCE.search(text):
        return None
    return next(((ready,) for pattern, ready in _RUNS_ON if re.match(pattern, text)), None)


def _is_exit_code(step: Step) -> bool:
    return isinstance(step, Command) and step.text == "echo $?"


def _code_shown_after(steps: Sequence[Step], number: int) -> int:
    after = steps[number + 1] if number + 1 < len(steps) else None
    return int(after.output[0]) if isinstance(after, Command) and _is_exit_code(after) else 0
