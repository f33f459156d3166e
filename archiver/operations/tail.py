"""The command `archiver tail`: a stream's last frames, and what comes."""

import argparse
import shutil
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import msgspec

import g3stream
from archiver.console.runner import CommandError, print_lines, print_out, with_kafka
from archiver.core.formatting import format_bytes, format_iso, format_time
from archiver.operations.frame_dump import DumpError, FrameDump
from g3stream.contract.headers import Kind
from g3stream.frame_format.layout import FrameFormatError, frame_type_name, key_names

_COLUMNS = "{:12}  {:11}  {:>10}  {:>8}  {:>8}  {:12}  {}"
_HEAD = _COLUMNS.format("time", "type", "session", "number", "size", "id", "keys")


@with_kafka
def tail(_: dict[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/tail.py); return its exit code."""
    since = None if options.since is None else datetime.fromtimestamp(options.since / 1000, UTC)
    show = _as_json if options.json else _Table(options)
    try:
        with ExitStack() as stack:
            records = stack.enter_context(
                g3stream.records(
                    options.stream,
                    since=since,
                    last=options.frames,
                    follow=options.follow,
                    facts=True,
                    losses=True,
                    bootstrap_servers=options.bootstrap_servers,
                    kafka_config=options.kafka_config,
                )
            )
            dump = stack.enter_context(FrameDump()) if options.dump else None
            for item in records:
                if isinstance(item, g3stream.Record) and item.headers.kind is Kind.QUIET:
                    continue
                for line in show(options.stream, item):
                    print_out(line)
                if dump and isinstance(item, g3stream.Record) and item.value:
                    print_lines(_dumped(dump, item))
                if options.follow:
                    sys.stdout.flush()
    except g3stream.G3StreamError as error:
        raise CommandError(str(error)) from None
    return 0


def _dumped(dump: FrameDump, record: g3stream.Record) -> str:
    try:
        return dump.text_of(record.value)
    except DumpError as error:
        return f"(the frame at offset {record.offset} can't be shown: {error})"


def _keys(record: g3stream.Record) -> list[str] | None:
    """Return the names of a frame's keys; None if there is no frame, or it can't be read."""
    try:
        return key_names(record.value) if record.value else None
    except FrameFormatError:
        return None


def _type(record: g3stream.Record) -> str | None:
    return None if record.headers.type is None else frame_type_name(record.headers.type)


def _as_json(stream: str, item: g3stream.Item) -> list[str]:
    """Return an item as the JSON object that the command's help describes, in one line."""
    if isinstance(item, g3stream.Loss):
        found: dict[str, Any] = {
            "kind": "loss",
            "stream": stream,
            "records": item.records,
            "what": item.what,
            "cause": item.cause,
        }
    else:
        headers = item.headers
        found = {"kind": headers.kind, "stream": stream, "offset": item.offset, "time": format_iso(item.time_ms)}
        if item.value:
            found |= {"type": _type(item), "session": headers.session, "number": headers.num}
            found |= {"bytes": len(item.value), "id": headers.id, "keys": _keys(item)}
        else:
            found["why"] = headers.why
    return [msgspec.json.encode(found).decode()]


class _Table:
    """Lines of a table, each shown at once, with the date where it changes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._zone = options.zone
        self._width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        self._date: str | None = None

    def __call__(self, _: str, item: g3stream.Item) -> list[str]:
        """Return the lines of an item."""
        if isinstance(item, g3stream.Loss):
            count = "records" if item.records is None else f"{item.records} records"
            return self._fitted([f"LOST {count}, {item.cause}: {item.what}"])
        date, _, time = format_time(item.time_ms, self._zone).partition(" ")
        lines = []
        if self._date is None:
            lines.append(_HEAD)
        if date != self._date:
            lines.append(f"--- {date}{' UTC' if self._zone is UTC else ''}")
            self._date = date
        headers = item.headers
        time = f"{time}.{item.time_ms % 1000:03}"
        if headers.kind is Kind.FRAME:
            row = (_type(item), headers.session, headers.num, format_bytes(len(item.value)), headers.id)
            shown = ["" if cell is None else str(cell) for cell in row]
            keys = _keys(item)
            lines.append(_COLUMNS.format(time, *shown, "(unreadable)" if keys is None else " ".join(keys)))
        else:
            word = headers.kind.shown if headers.kind in (Kind.CONNECTED, Kind.LOST) else headers.kind.upper()
            lines.append(f"{time}  {word}{f': {headers.why}' if headers.why else ''}")
        return self._fitted(lines)

    def _fitted(self, lines: list[str]) -> list[str]:
        """Return the lines as they fit the terminal; whole if they are piped."""
        width = self._width
        whole = [line.rstrip() for line in lines]
        return [it if width is None or len(it) <= width else it[: width - 1] + "…" for it in whole]
