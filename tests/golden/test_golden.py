"""What is persisted or public stays as it is: bytes of headers, commits, events and spools, names, metrics, flags.

Where a test here fails, an upgrade would not go on with what lies there, or somebody's alert, dashboard, unit or
script breaks. What is new is added to the data as pinned.py says; look at the difference before.
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
from g3stream.contract.headers import CHUNK_BYTES, RecordHeaders
from ingest.spool.spool import Spool
from tests.golden import pinned


@pytest.mark.parametrize("name", pinned.TEXTS)
def test_it_is_made_as_ever(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs this, on whatever machine."""
    ours = ("ARCHIVER_", "INGEST_", "KAFKA_", "LOGLEVEL", "XDG_")
    for variable in [variable for variable in os.environ if variable.startswith(ours)]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", "/home/somebody")
    made = json.loads(pinned.as_text(pinned.TEXTS[name]()))
    assert made == json.loads((pinned.DATA / f"{name}.json").read_text())


def test_a_spools_file_is_made_as_ever() -> None:
    made, kept = pinned.spool_file(), gzip.decompress(pinned.SPOOL_FILE.read_bytes())
    assert hashlib.sha256(made).hexdigest() == hashlib.sha256(kept).hexdigest()


def kept(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pinned.DATA / f"{name}.json").read_text())
    return found


def test_headers_are_read_as_ever() -> None:
    for name, pairs in kept("headers").items():
        assert RecordHeaders.from_kafka((key, value.encode()) for key, value in pairs) == pinned.LABELS[name]


def test_commits_are_read_as_ever() -> None:
    for text in kept("checkpoints").values():
        stream = json.loads(text)["state"]["stream"]
        assert checkpoint.encode(checkpoint.decode(text, stream)) == text


def test_events_are_read_as_ever() -> None:
    events = kept("events")
    del events["finalized"]  # no program of ours reads it
    for key, value in events.values():
        found = file_events.decode(value.encode())
        assert (found.key, file_events.encode(found).decode()) == (key, value)


def test_names_are_read_as_ever() -> None:
    for name, path in kept("names").items():
        assert PartialName.parse(path) if name.startswith("partial") else parse_path(path)


def test_a_spool_that_was_left_behind_is_gone_on_with(tmp_path: Path) -> None:
    """Of an ingest that was killed, with three bundles that Kafka hasn't acknowledged."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "state").write_bytes(bytes.fromhex(kept("spool-state")["killed"]))
    written, _ = json.loads((pinned.DATA / "spool-names.json").read_text())
    (tmp_path / "spool" / written).write_bytes(gzip.decompress(pinned.SPOOL_FILE.read_bytes()))
    with Spool(tmp_path, 64 << 20) as spool:
        assert spool.previous == (pinned.EPOCH, 8)
        found = [record for bundle in spool.read(-1, 1 << 30) for record in bundle.records]
    whole = [entry for entry in pinned.ENTRIES for _ in range(-(-max(1, len(entry.value)) // CHUNK_BYTES))]
    assert [(one.time_ms, one.rejected) for one in found] == [(entry.time_ms, entry.rejected) for entry in whole]
    assert b"".join(one.value for one in found) == b"".join(bytes(entry.value) for entry in pinned.ENTRIES)
    labels = [RecordHeaders.from_kafka((key, value.encode()) for key, value in one.headers) for one in found]
    assert [label._replace(chunk=(1, 1)) for label in labels] == [entry.headers for entry in whole]
