"""What was recorded, made by hand: a night of a stream `s` from NOON on."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import cast

from confluent_kafka import KafkaException

from archiver.catalog.catalog_file import in_memory
from archiver.catalog.recorded import Acquisition, Loss, Recorded, RecordedFile, Retirement
from archiver.catalog.rows import Changes
from archiver.catalog.update import CatalogUpdater
from archiver.catalog.write import apply
from archiver.core.events import Event, encode
from archiver.web.records.catalog_follower import CatalogFollower
from archiver.web.urls import night_start_ms

NIGHT = date(2026, 11, 29)
NOON = night_start_ms(NIGHT)
MINUTE, HOUR = 60_000, 3_600_000
FILE = RecordedFile(
    path="17959/s/2026-11-29-21-00-00_000.g3",
    kind="finished",
    stream="s",
    id="s",
    start_s=(NOON + 9 * HOUR) // 1000,
    number=7,
    acquisition=7,
    session=1795986000,
    begin_ms=NOON + 9 * HOUR,
    end_ms=NOON + 9 * HOUR + 10 * MINUTE,
    first_ms=NOON + 9 * HOUR,
    last_ms=NOON + 9 * HOUR + 10 * MINUTE - 5,
    closed_ms=NOON + 9 * HOUR + 10 * MINUTE,
    closed="time",
    frames=600,
    missing=0,
    bytes=123_456_789,
    sha256="ab" * 32,
    md5=None,
    host="daq1",
    what=None,
    who=None,
    reason=None,
    damage=None,
)
LOSS = Loss(
    stream="s",
    records=12,
    times=1,
    what="records 5 to 16 of the epoch 0123",
    cause="gap",
    offset=99,
    since_ms=NOON + 9 * HOUR + 3 * MINUTE,
    until_ms=NOON + 9 * HOUR + 4 * MINUTE,
    host="daq1",
    file=FILE.path,
)
RETIRED = Retirement(FILE.path, "s", FILE.sha256, FILE.bytes, NOON + 20 * HOUR, "ops@site", "daq1", "disk full")


def files(count: int, *, stream: str = "s", begin_ms: int = FILE.begin_ms, closed: str = "end") -> Acquisition:
    """Return an acquisition of files of ten minutes."""
    made = []
    for n in range(count):
        at = begin_ms + n * 10 * MINUTE
        made.append(
            replace(
                FILE,
                stream=stream,
                path=f"17959/{stream}/2026-11-29-21-00-00_{n:03d}.g3",
                number=7 + n,
                begin_ms=at,
                first_ms=at,
                end_ms=at + 10 * MINUTE,
                last_ms=at + 10 * MINUTE - 5,
                closed="time" if n < count - 1 else closed,
            )
        )
    return Acquisition(tuple(made))


def recorded(*acquisitions: Acquisition, others: tuple[RecordedFile, ...] = ()) -> Recorded:
    """Return what was recorded, without losses outside of files."""
    return Recorded(acquisitions, others, ())


class Catalog:
    """A catalog in memory of these events, as CatalogUpdater's. error: what reading it raises."""

    def __init__(self, events: Sequence[Event], error: Exception | None = None) -> None:
        changes = Changes()
        for offset, event in enumerate(events):
            changes.add(offset, encode(event))
        self._connection = in_memory("archiver")
        apply(self._connection, changes)
        self._dump = self._connection.serialize()
        self._error = error

    def update(self) -> int:
        raise KafkaException

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        if self._error:
            raise self._error
        connection = sqlite3.connect(":memory:")  # of this thread
        connection.deserialize(self._dump)
        yield connection
        connection.close()


def follower(events: Sequence[Event], error: Exception | None = None) -> CatalogFollower:
    """Return a follower that knows these events, and isn't started."""
    return CatalogFollower(cast(CatalogUpdater, Catalog(events, error)), str, lambda: None)
