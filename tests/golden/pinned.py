"""Everything persisted or public, as this version makes it; `data/` has it as it must stay.

    python -c 'from tests.golden import pinned; pinned.write()'

writes the data again, to add to it; what is there must not change. The files of real programs and the exit codes are
pinned by test_on_disk.py and test_exit_codes.py.

With them this version continues with the spools, commits, events, files, alerts and command lines of older versions.
"""

import argparse
import gzip
import importlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from archiver.__main__ import COMMANDS
from archiver.__main__ import make_parser as archiver_parser
from archiver.console.arguments import default_who
from archiver.core import checkpoint
from archiver.core import events as file_events
from archiver.core.checkpoint import ArchiveMark, Base, Checkpoint, Partial, RecordId, where
from archiver.core.events import ArchiveFinalized, FirstLoss
from archiver.core.paths import NameFormat, PartialName, file_path
from archiver.core.segmentation import Acquisition, CloseReason, OpenFileState, Settings, State
from archiver.event_counters import EventCounters
from archiver.handover.schedule import FollowerStatus, group_of
from archiver.metrics import metrics as archiver_metrics
from archiver.suprsync.finalized_until import FinalizedUntil
from archiver.suprsync.registration import SupRsyncStatus
from archiver.suprsync.sink import Registered, RegistrationOutcome
from g3_agents import smurf_archiver, smurf_ingest, smurf_recorder
from g3stream.contract import program_status
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.program_status import ArchiverStatus, IngestStatus, ProgramStatus, VerifyStatus
from g3stream.contract.sequence import LossCause
from g3stream.contract.topics import (
    FILES_TOPIC,
    FILES_TOPIC_CONFIG,
    FRAMES_TOPIC_CONFIG,
    QUARANTINE_TOPIC_CONFIG,
    REJECTED_TOPIC_CONFIG,
    STATUS_TOPIC,
    STATUS_TOPIC_CONFIG,
    frames_topic,
    quarantine_topic,
    rejected_topic,
)
from g3stream.host.environment import host_name
from g3stream.service.timeouts import DiskSpace
from ingest.__main__ import make_parser as ingest_parser
from ingest.metrics import metrics as ingest_metrics
from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import make_batches
from ingest.spool.data_file import encode_header, file_name
from ingest.spool.ledger import LedgerState
from tests.unit.archiver.core.test_catalog import SALVAGED, adopted, finished, lost, retired
from tests.unit.archiver.core.test_checkpoint import IN_DECADES, largest
from tests.unit.test_metrics import ALL_IS_WRITTEN, ARCHIVE, MS, NOW, STREAM

FOLLOWERS = [FollowerStatus("on-file", active=True)]
SUPRSYNC = SupRsyncStatus(
    "timestreams", Registered(dict.fromkeys(RegistrationOutcome, 0), ""), 0, FinalizedUntil(MS, MS), None
)
DATA = Path(__file__).with_name("data")
EPOCH = "0123456789abcdef"
MARK = b"\x01\x02\x03\x04\x05\x06\x07\x08"
HEADERS = {
    "start": RecordHeaders(Kind.START, EPOCH, 1, 78, "crate1slot2"),
    "frame": RecordHeaders(Kind.FRAME, EPOCH, 2, 83, "crate1slot2", 1_546_344_000, 7),
    "frame that says nothing": RecordHeaders(Kind.FRAME, EPOCH, 3, 79),
    "chunk": RecordHeaders(Kind.FRAME, EPOCH, 4, 83, chunk=(2, 3)),
    "end": RecordHeaders(Kind.END, EPOCH, 5, 78),
    "connected": RecordHeaders(Kind.CONNECTED, EPOCH, 6, why="10.0.0.1:4532"),
    "lost": RecordHeaders(Kind.LOST, EPOCH, 7, why="the sender closed it"),
    "quiet": RecordHeaders(Kind.QUIET, EPOCH, 8),
    "ingest started": RecordHeaders(Kind.LOST, EPOCH, 0, why="ingest started", prev=("f" * 16, 9), unclean=True),
    "operator": RecordHeaders(Kind.LOST, EPOCH, 9, why="closed", prev=("f" * 16, 9), operator=True),
    "rejected": RecordHeaders(Kind.FRAME, EPOCH, 0, why="its CRC is wrong"),
}
RECORDS = [
    PendingRecord(HEADERS["ingest started"], MS),
    PendingRecord(HEADERS["frame"], MS + 1, b"a frame"),
    PendingRecord(HEADERS["rejected"], MS + 2, b"bad", rejected=True),
    PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 4, 83), MS + 3, bytes(range(256)) * 5_000),
    PendingRecord(HEADERS["quiet"], MS + 4),
]
"""One record takes two chunks."""


def headers() -> dict[str, list[tuple[str, str]]]:
    """Kafka headers of each kind of record, in order."""
    return {name: [(key, value.decode()) for key, value in one.to_kafka()] for name, one in HEADERS.items()}


def topics() -> dict[str, Any]:
    """Names of topics and consumer groups, and the settings that topics are created with."""
    return {
        "frames": frames_topic("crate1slot2"),
        "files": FILES_TOPIC,
        "config": dict(FRAMES_TOPIC_CONFIG),
        "config of files": dict(FILES_TOPIC_CONFIG),
        "rejected": rejected_topic("crate1slot2"),
        "config of rejected": dict(REJECTED_TOPIC_CONFIG),
        "quarantine": quarantine_topic("crate1slot2"),
        "config of quarantine": dict(QUARANTINE_TOPIC_CONFIG),
        "status": STATUS_TOPIC,
        "config of status": dict(STATUS_TOPIC_CONFIG),
        "group of --on-file": group_of("archiver", "on-file", "0" * 16),
    }


def checkpoints() -> dict[str, str]:
    """Metadata of commits: of a new stream; of the largest state, while a file is finished; and in mid-file.

    The last has the fields that the largest has no space for.
    """
    made = {str(name_format): checkpoint.encode(largest(IN_DECADES, name_format)) for name_format in NameFormat}
    first = RecordId(5, EPOCH, 2, MS, Kind.FRAME)
    base = Base(4, State("crate1slot2"), {EPOCH: 1, "f" * 16: -1})
    path = file_path(1_546_344_000, "crate1slot2", 0, NameFormat.DATE)
    acquisition = Acquisition(1_546_344_000, "crate1slot2", Settings())
    recorded = Checkpoint(
        State("crate1slot2", acquisition, OpenFileState(0, MS), MS),
        ((EPOCH, 2),),
        partial=Partial(path, "0123abcd", 1000, 1, 1, first, first, (), base),
        archive=ArchiveMark("0" * 16, where("daq1", PurePath("/data"), PurePath("/private"))),
        forgotten=("e" * 16,),
    )
    return {
        "begun": checkpoint.encode(Checkpoint(State("crate1slot2"))),
        **made,
        "in mid-file": checkpoint.encode(recorded),
    }


def events() -> dict[str, tuple[str, str]]:
    """Key and value of each kind of event on g3.files."""
    ctime = Settings(1, 1, NameFormat.CTIME, (87, 79, 83))
    of: dict[str, file_events.Event | ArchiveFinalized] = {
        "file": finished(0),
        "file of other settings": finished(3, settings=ctime, carry=(79, 87), missing=7, md5="0" * 32),
        "loss": lost(7, MS),
        "losses": lost(7, MS, times=3, first=FirstLoss(5, MS - 9, "what")),
        "loss of which little is known": lost(0, -1, records=None, since=None),
        "salvaged": SALVAGED,
        "retired": retired(finished(0)),
        "adopted": adopted(finished(0).path),
        "finalized": ArchiveFinalized("archiver", MS, None, "daq1"),
        **{f"file closed by {why}": finished(0, why=why) for why in CloseReason},
        **{f"loss by {cause}": lost(7, MS, cause=cause) for cause in LossCause},
    }
    return {name: (one.key, file_events.encode(one).decode()) for name, one in of.items()}


def reports() -> dict[str, tuple[str, str]]:
    """Key and value of each kind of report on g3.status, with all fields."""
    common: dict[str, Any] = {
        "host": "daq1",
        "version": "0.1.0",
        "time_ms": MS,
        "started_ms": MS - 9,
        "stopped": True,
        "bytes_per_s": 1.5,
        "problems": ("it is full",),
    }
    of: dict[str, ProgramStatus | VerifyStatus] = {
        "ingest": IngestStatus(
            **common,
            stream="crate1slot2",
            source="smurf1:4532",
            connected=False,
            since_ms=MS - 5,
            disconnect_reason="the sender closed it",
            last_frame_ms=MS - 6,
            spool_bytes=7,
        ),
        "archiver": ArchiverStatus(
            **common,
            group="archiver",
            instance="daq1-0",
            data_dir="/data",
            streams=("crate1slot2",),
            disk_free_bytes=10**12,
        ),
        "verify": VerifyStatus(
            group="archiver",
            host="daq1",
            data_dir="/data",
            time_ms=MS,
            files=3,
            bytes=4,
            wrong=1,
            unknown=2,
            against_topic=True,
        ),
    }
    return {name: (report.key, program_status.encode(report).decode()) for name, report in of.items()}


def names() -> dict[str, str]:
    """Paths of files, and names of their partials."""
    paths = {
        f"{form} {n}": file_path(1_546_344_000, "crate1slot2", n, form) for form in NameFormat for n in (0, 1234)
    }
    partials = {f"partial of {name}": str(PartialName(path, MS, "0123abcd")) for name, path in paths.items()}
    return paths | partials


def metrics() -> dict[str, list[str]]:
    """Type and label names of each metric."""
    found: dict[str, list[str]] = {}
    ingest = ingest_metrics([STREAM], ALL_IS_WRITTEN, Path("/"), DiskSpace(), NOW)
    archiver = archiver_metrics(ARCHIVE, EventCounters(), ALL_IS_WRITTEN, os.statvfs("/"), FOLLOWERS, SUPRSYNC, NOW)
    for text in (ingest, archiver):
        for family in text_string_to_metric_families(text.decode()):
            labels = sorted({label for sample in family.samples for label in sample.labels})
            found[family.name] = [family.type, *labels]
    return dict(sorted(found.items()))


def command_lines() -> dict[str, dict[str, dict[str, Any]]]:
    """Each option of each program, command and agent: its variable, default, choices, number of values."""
    parsers: dict[str, argparse.ArgumentParser] = {"ingest": ingest_parser(), "archiver": archiver_parser()}
    for name in COMMANDS:
        parsers[f"archiver {name}"] = importlib.import_module(f"archiver.commands.{name}").make_parser()
    for agent in (smurf_recorder, smurf_ingest, smurf_archiver):
        parsers[agent.__name__.rpartition(".")[2]] = agent.make_parser()
    return {name: _options(parser, is_agent=name.startswith("smurf_")) for name, parser in parsers.items()}


def _options(parser: argparse.ArgumentParser, *, is_agent: bool) -> dict[str, dict[str, Any]]:
    """is_agent: its defaults are pinned as the values that argparse makes of them, not as texts."""
    found = {}
    for action in parser._actions:  # noqa: SLF001 - argparse has no other list of them
        variable = re.search(r"\[([A-Z][A-Z_0-9]+)[],]", action.help or "")
        default = action.default
        if is_agent and isinstance(default, str) and callable(action.type):
            default = action.type(default)
        # Paths of which there may be none: argparse called them required before Python 3.14.
        any_number = action.nargs == "*" and not action.option_strings
        properties = {
            "variable": variable and variable[1],
            "default": _plain(default),
            "nargs": action.nargs,
            "choices": action.choices and sorted(map(str, action.choices)),
            "required": action.required or any_number or None,
        }
        name = " ".join(action.option_strings) or action.dest
        found[name] = {key: value for key, value in properties.items() if value is not None}
    return found


def _plain(value: Any) -> Any:
    """A default value, without the names of this user and this machine."""
    if value == argparse.SUPPRESS:
        return None
    if value is None or isinstance(value, int | float | list | dict):
        return value
    text = str(value).replace(str(Path.home()), "~")
    return "USER@HOST" if text == default_who() else text.replace(f" on {host_name()}", " on HOST")


def spool_state() -> dict[str, str]:
    """A spool's ledger in hex: after a kill, and before its first record."""
    boot = b"11111111-2222-3333-4444-555555555555"
    return {
        "killed": LedgerState(5, 8, False, boot, (EPOCH, 8)).packed().hex(),
        "new": LedgerState(0, 0, True, b"", None).packed().hex(),
    }


def spool_names() -> list[str]:
    """Names of a spool's files: of one being written, and of a complete one."""
    return [file_name(5, end, MARK) for end in (None, 8)]


def spool_file() -> bytes:
    """A spool file with these records."""
    written = b""
    for key, batch in enumerate(make_batches(RECORDS), 5):
        header = encode_header(MARK, key, batch.pieces, batch.append_continues)
        written += b"".join([header, *batch.pieces])
    return written


TEXTS: Mapping[str, Callable[[], Any]] = {
    "headers": headers,
    "topics": topics,
    "checkpoints": checkpoints,
    "events": events,
    "reports": reports,
    "names": names,
    "metrics": metrics,
    "command-lines": command_lines,
    "spool-state": spool_state,
    "spool-names": spool_names,
}
SPOOL_FILE = DATA / "spool-file.gz"


def as_text(value: Any) -> str:
    """The text of a file in data/."""
    return json.dumps(value, indent=1) + "\n"


def write() -> None:
    """Write data/ again."""
    DATA.mkdir(exist_ok=True)
    for name, make in TEXTS.items():
        (DATA / f"{name}.json").write_text(as_text(make()))
    SPOOL_FILE.write_bytes(gzip.compress(spool_file(), mtime=0))
