"""The command `archiver status`: prints the verdict once, or keeps a terminal up to date with it."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import KafkaException
from rich.live import Live

from archiver.console.runner import print_err, print_out, with_kafka
from archiver.console.tables import Line, Part, print_parts, stdout_console, terminal_text
from archiver.core.formatting import format_time
from archiver.status.as_json import archiver_json, stream_json
from archiver.status.collect import EvidenceCollector
from archiver.status.screen import screen
from archiver.status.verdict import Verdict, judge
from g3stream.host.environment import now_ms
from g3stream.host.printable import printable


@with_kafka
def show(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/status.py); return its exit code."""
    with EvidenceCollector(config, options.group, options.stream) as collector:
        if options.watch is not None:
            return _watch(collector, options.group, options.watch)
        verdict = judge(collector.collect(), now_ms())
    if options.json:
        for line in json_lines(verdict, options.group):
            print_out(line)
    elif verdict.streams:
        print_parts(screen(verdict, options.group, now_ms()))
    else:
        print_err("no stream has a topic yet (ingest creates it), or ACLs hide them (Read on g3.frames.… is needed)")
    return int(bool(verdict.problems))


def _watch(collector: EvidenceCollector, group: str, seconds: float) -> int:
    """Show the present verdict, again and again, until Ctrl-C; return the exit code of the last one."""
    console = stdout_console()
    code = 1
    with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            parts: list[Part]
            try:
                verdict = judge(collector.collect(), now_ms())
                code = int(bool(verdict.problems))
                parts = screen(verdict, group, now_ms())
            except KafkaException as error:  # shown, and tried again: Kafka is what is watched, too
                code = 1
                parts = [Line(f"Kafka can't be read: {printable(error.args[0].str())}", "bold red")]
            parts += ["", Line(f"{format_time(now_ms())} UTC, every {seconds:g} s; Ctrl-C ends it", "dim")]
            live.update(terminal_text(parts, console.width), refresh=True)
            try:
                time.sleep(seconds)
            except KeyboardInterrupt:
                return code


def json_lines(verdict: Verdict, group: str) -> Iterator[str]:
    """Yield the lines of --json: each stream, each archiver, and last the verdict."""
    for it in verdict.streams:
        yield json.dumps(stream_json(it))
    for report in verdict.archivers:
        yield json.dumps(archiver_json(report))
    yield json.dumps({"kind": "verdict", "group": group, "ok": not verdict.problems, "problems": verdict.problems})
