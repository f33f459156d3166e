"""kill -9 between any two of the spool's system calls, and during any write; a call that fails, then a kill.

What was appended and not acknowledged is there afterwards, in order; of an append that was cut short, all or nothing;
and nothing is reported as damaged.
"""

import contextlib
import errno
import logging
import os
import random
import shutil
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from g3stream.contract.headers import Kind, RecordHeaders
from ingest.config import MIN_SPOOL_BYTES
from ingest.receive.record_builder import PendingRecord
from ingest.spool.spool import Spool
from ingest.spool.writer import SpoolError

EPOCH = "0" * 16
ALL = 1 << 40
CALLS = ("open", "rename", "unlink", "truncate", "ftruncate", "pwrite", "pwritev", "fsync", "fdatasync", "mkdir")

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@cache
def value(seq: int) -> bytes:
    """The value of that record: of many lengths, some longer than a data file of the spool."""
    return random.Random(seq).randbytes((0, 3000, 9000, 40_000)[seq * 7 % 4])


def live(directory: Path, report: Callable[[str], None]) -> None:
    """Use a spool for a short time: append, read and acknowledge in turns, so that its files are recycled."""
    spool = Spool(directory, MIN_SPOOL_BYTES)
    after, seq = -1, 0
    for turn in range(12):
        count = 1 + turn % 3
        pending = [PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, n), n, value(n)) for n in range(seq, seq + count)]
        report(f"trying {seq + count}")
        for _ in range(10):
            try:
                spool.writer.append(pending)
                break
            except SpoolError:
                continue
        seq += count
        report(f"appended {seq}")
        if turn % 4 > 1:
            found = spool.reader.read(after, ALL, from_disk=bool(turn % 2))
            if found:
                after = found[-1].key
                report(f"removing {found[-1].records[-1].time_ms + 1}")
                spool.acknowledge([batch.key for batch in found])
    with contextlib.suppress(SpoolError):
        spool.close()


Instead = Callable[[str, Sequence[Any]], None]
"""Called with the name of a system call and its arguments."""


def in_a_process(directory: Path, at: int, instead: Instead) -> tuple[dict[str, int], int]:
    """Run `live` in a process of its own, with `instead` called before its `at`-th system call.

    Returns the last number of each kind that it reported, and how many calls it made if it came to its end (else 0).
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        logging.disable()
        calls = 0

        def counted(name: str, really: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal calls
                calls += 1
                if calls == at:
                    instead(name, arguments)
                return really(*arguments, **more)

            return call

        for name in CALLS:
            setattr(os, name, counted(name, getattr(os, name)))
        try:
            live(directory, lambda what: void(os.write(writing, f"{what}\n".encode())))
            os.write(writing, f"calls {calls}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as lines:
        reported = {what: int(number) for what, number in (line.split() for line in lines)}
    os.waitpid(child, 0)
    return reported, reported.get("calls", 0)


def void(_: object) -> None:
    """Return nothing."""


def kill(name: str, arguments: Sequence[Any]) -> None:
    """End as by kill -9; of what is to be written, half is written."""
    if name == "pwritev":
        data = b"".join(arguments[1])
        os.pwrite(arguments[0], data[: len(data) // 2], arguments[2])
    os._exit(9)


def fail(name: str, _arguments: Sequence[Any]) -> None:
    """Fail as a call does while the process or the system has too many files open, or the disk is full."""
    if name == "open":
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if name in ("pwrite", "pwritev", "rename", "mkdir"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def check(directory: Path, reported: dict[str, int]) -> None:
    """Open the spool twice and check that what must be there is."""
    least, tried, removed = reported.get("appended", 0), reported.get("trying", 0), reported.get("removing", 0)
    with Spool(directory, MIN_SPOOL_BYTES) as spool:
        found = [record for batch in spool.reader.read(-1, ALL) for record in batch.records]
        seqs = [record.time_ms for record in found]
        end = spool.previous[1] + 1 if spool.previous else 0
        assert end in (least, tried)
        assert seqs == list(range(seqs[0], end)) if seqs else removed >= end
        assert not seqs or seqs[0] <= removed
        assert all(record.value == value(record.time_ms) for record in found)
        assert spool.ledger.unreadable_batches == 0
        assert not spool.unclean_shutdown
        spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, end), end)])
    with Spool(directory, MIN_SPOOL_BYTES) as spool:
        assert [record.time_ms for batch in spool.reader.read(-1, ALL) for record in batch.records] == [*seqs, end]


@pytest.mark.slow
@pytest.mark.parametrize("instead", [kill, fail])
def test_whichever_of_its_calls_it_was(instead: Instead, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def killed(at: int) -> None:
        directory = tmp_path / str(at)
        reported, _ = in_a_process(directory, at, instead)
        if instead is kill or reported:  # else it could not be opened
            check(directory, reported)
        assert not caplog.messages, at
        shutil.rmtree(directory, ignore_errors=True)

    _, calls = in_a_process(tmp_path / "to the end", 0, instead)
    assert calls > 60
    for at in range(1, calls + 1):
        killed(at)
