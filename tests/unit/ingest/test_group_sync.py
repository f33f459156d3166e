"""The spool's group sync ends when it is stopped, at whatever moment that is."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from ingest.spool import group_sync
from ingest.spool.group_sync import GroupSync
from ingest.spool.ledger import Ledger

SECONDS = 30.0


def test_a_stop_just_before_a_request_is_cleared_ends_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_set = threading.Semaphore(0)

    class Event(threading.Event):
        def set(self) -> None:
            super().set()
            was_set.release()

        def clear(self) -> None:
            stopping.start()
            for _ in ("closed", "requested"):
                assert was_set.acquire(timeout=SECONDS)
            super().clear()

    monkeypatch.setattr(group_sync, "_DELAY_SECONDS", 0)
    monkeypatch.setattr(group_sync, "threading", SimpleNamespace(Event=Event))
    sync = GroupSync(tmp_path, cast("Ledger", SimpleNamespace(sync=lambda: None)))
    stopping = threading.Thread(target=sync.stop, daemon=True)
    sync.request()
    assert was_set.acquire(timeout=SECONDS)
    sync.start()
    sync.join(SECONDS)
    assert not sync.is_alive()
