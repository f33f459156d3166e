"""Everything persisted or public stays unchanged: headers, commits, events and spools, names, metrics, flags.

If a test here fails, an upgrade would not continue with existing data, or somebody's alert, dashboard, systemd unit
or script breaks. New items are added to the data as pinned.py describes; check the difference before that.
"""

import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from archiver.core import checkpoint
from archiver.core import events as file_events
from archiver.core.paths import PartialName, parse_path
from g3stream.contract import program_status
from g3stream.contract.headers import CHUNK_BYTES, RecordHeaders
from ingest.spool.spool import Spool
from tests.golden import pinned


@pytest.mark.parametrize("name", pinned.TEXTS)
def test_it_is_made_as_ever(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent of the user and the machine."""
    ours = ("ARCHIVER_", "INGEST_", "KAFKA_", "LOGLEVEL", "XDG_")
    for variable in [variable for variable in os.environ if variable.startswith(ours)]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", "/home/somebody")
    made = json.loads(pinned.as_text(pinned.TEXTS[name]()))
    assert made == json.loads((pinned.DATA / f"{name}.json").read_text())


def test_a_spools_file_is_made_as_ever() -> None:
    made, before = pinned.spool_file(), gzip.decompress(pinned.SPOOL_FILE.read_bytes())
    assert hashlib.sha256(made).hexdigest() == hashlib.sha256(before).hexdigest()


def pinned_data(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pinned.DATA / f"{name}.json").read_text())
    return found


def test_headers_are_read_as_ever() -> None:
    for name, pairs in pinned_data("headers").items():
        assert RecordHeaders.from_kafka((key, value.encode()) for key, value in pairs) == pinned.HEADERS[name]


def test_commits_are_read_as_ever() -> None:
    for text in pinned_data("checkpoints").values():
        stream = json.loads(text)["state"]["stream"]
        assert checkpoint.encode(checkpoint.decode(text, stream)) == text


def test_reports_are_read_as_ever_also_those_of_a_later_version() -> None:
    for key, value in pinned_data("reports").values():
        report = program_status.decode(value.encode())
        assert (report.key, program_status.encode(report).decode()) == (key, value)
        later = json.dumps({**json.loads(value), "a_later_field": [1]})
        assert program_status.decode(later.encode()) == report


def test_events_are_read_as_ever() -> None:
    events = pinned_data("events")
    del events["finalized"]  # none of our programs reads it
    for key, value in events.values():
        found = file_events.decode(value.encode())
        assert (found.key, file_events.encode(found).decode()) == (key, value)


def test_names_are_read_as_ever() -> None:
    for name, path in pinned_data("names").items():
        assert PartialName.parse(path) if name.startswith("partial") else parse_path(path)


def test_a_spool_that_was_left_behind_is_continued(tmp_path: Path) -> None:
    """The spool of an ingest that was killed, with three batches that Kafka hasn't acknowledged."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "state").write_bytes(bytes.fromhex(pinned_data("spool-state")["killed"]))
    written, _ = json.loads((pinned.DATA / "spool-names.json").read_text())
    (tmp_path / "spool" / written).write_bytes(gzip.decompress(pinned.SPOOL_FILE.read_bytes()))
    with Spool(tmp_path, 64 << 20) as spool:
        assert spool.previous == (pinned.EPOCH, 8)
        found = [record for batch in spool.reader.read(-1, 1 << 30) for record in batch.records]
    sent = [record for record in pinned.RECORDS for _ in range(-(-max(1, len(record.value)) // CHUNK_BYTES))]
    assert [(one.time_ms, one.rejected) for one in found] == [(record.time_ms, record.rejected) for record in sent]
    assert b"".join(one.value for one in found) == b"".join(bytes(record.value) for record in pinned.RECORDS)
    headers = [RecordHeaders.from_kafka((key, value.encode()) for key, value in one.headers) for one in found]
    assert [one._replace(chunk=(1, 1)) for one in headers] == [record.headers for record in sent]
