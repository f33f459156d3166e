"""The spool keeps what was appended, in order, through reopening and kills, and says when it is full."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g3stream.contract.headers import CHUNK_BYTES, Kind, RecordHeaders
from g3stream.kafka.topic_admin import TopicWatch
from g3stream.service.endpoint import ClientEndpoint
from ingest.config import MIN_SPOOL_BYTES, StreamSettings
from ingest.publish.publisher import Publisher
from ingest.receive.record_builder import PendingRecord
from ingest.spool.batch import Batch, SpooledRecord
from ingest.spool.cache import BatchCache
from ingest.spool.ledger import HIGH_WATERMARK, LOW_WATERMARK, LedgerState
from ingest.spool.spool import Spool
from ingest.spool.writer import SpoolError
from ingest.stream import Stream
from tests.support.processes import SECONDS, RawSender, eventually, scan

EPOCH = "00112233aabbccdd"
SIZE = 64 << 20
ALL = 1 << 40


def pending(
    seq: int, value: bytes = b"", *, rejected: bool = False, why: str | None = None, time: int = 7
) -> PendingRecord:
    """A frame's record, or a rejected one."""
    return PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, seq, why=why), time, value, rejected)


def headers_of(found: Sequence[SpooledRecord]) -> list[RecordHeaders]:
    """The records' headers, decoded."""
    return [RecordHeaders.from_kafka((name, text.encode()) for name, text in one.headers) for one in found]


def records(spool: Spool, after: int = -1) -> list[SpooledRecord]:
    """All records after that key."""
    return [record for batch in spool.reader.read(after, ALL) for record in batch.records]


def fill(spool: Spool, value: bytes) -> int:
    """Append until it is full. Returns the number of records."""
    count = 0
    while not spool.ledger.full:
        spool.writer.append([pending(count, value)])
        count += 1
    return count


# -- order and content ----------------------------------------------------------------------------------------


def test_records_come_back_in_order_with_everything(tmp_path: Path) -> None:
    put = [
        PendingRecord(RecordHeaders(Kind.LOST, EPOCH, 0, why="a=b, c=d", prev=("f" * 16, 9), unclean=True), 1),
        PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 1, 83, "slot", -5, 2**63 - 1), 2**42, b"\n=\x00\xff" * 9),
        pending(0, b"bad", rejected=True, why="its CRC"),
        PendingRecord(RecordHeaders(Kind.QUIET, EPOCH, 2), 3),
    ]
    with Spool(tmp_path, SIZE) as spool:
        spool.writer.append(put[:2])
        spool.writer.append(put[2:])
        found = records(spool)
    assert [(one.time_ms, one.rejected, one.value) for one in found] == [
        (e.time_ms, e.rejected, e.value) for e in put
    ]
    assert headers_of(found) == [e.headers for e in put]


def test_reading_goes_on_after_a_key_and_takes_about_so_many_bytes(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE) as spool:
        for n in range(10):
            spool.writer.append([pending(n, bytes(10_000))])
        first = spool.reader.read(-1, 25_000)
        assert len(first) == 3
        assert [one.seq for one in headers_of(records(spool, first[-1].key))] == list(range(3, 10))
        assert spool.reader.read(spool.reader.read(-1, ALL)[-1].key, ALL) == []


def test_removed_records_are_gone_and_the_others_stay(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE) as spool:
        for n in range(5):
            spool.writer.append([pending(n)])
        keys = [one.key for one in spool.reader.read(-1, ALL)]
        spool.acknowledge([keys[1], keys[3], keys[3], 10**9])
        assert [one.seq for one in headers_of(records(spool))] == [0, 2, 4]
        assert spool.ledger.waiting_batches == 3
        spool.acknowledge(keys)
        assert (spool.ledger.waiting_batches, spool.ledger.waiting_bytes, spool.reader.read(-1, ALL)) == (0, 0, [])
        spool.writer.append([pending(5)])
        assert spool.reader.read(keys[-1], ALL), "keys grow, also in an emptied spool"


@pytest.mark.parametrize(
    ("length", "count"),
    [(0, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (2 * CHUNK_BYTES, 2), (3_500_000, 4)],
)
@pytest.mark.parametrize("rejected", [False, True])
def test_large_records_are_split(tmp_path: Path, length: int, count: int, rejected: bool) -> None:
    value = memoryview(os.urandom(length))
    with Spool(tmp_path, SIZE) as spool:
        large = PendingRecord(RecordHeaders(Kind.FRAME, EPOCH, 1, 83), 5, value, rejected)
        spool.writer.append([pending(0), large, pending(2)])
        before, *chunks, after = records(spool)
    assert max(len(one.value) for one in chunks) <= CHUNK_BYTES
    assert b"".join(one.value for one in chunks) == value
    assert [one.chunk for one in headers_of(chunks)] == [(k, count) for k in range(1, count + 1)]
    assert {(one.seq, one.type) for one in headers_of(chunks)} == {(1, 83)}
    assert {(one.time_ms, one.rejected) for one in chunks} == {(5, rejected)}
    assert [one.seq for one in headers_of([before, after])] == [0, 2]


def test_small_records_that_arrive_together_are_stored_together(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE) as spool:
        spool.writer.append([pending(n, bytes(100_000)) for n in range(25)])
        assert [len(batch.records) for batch in spool.reader.read(-1, ALL)] == [10, 10, 5]
        spool.acknowledge([spool.reader.read(-1, ALL)[1].key])
        assert [one.seq for one in headers_of(records(spool))] == [*range(10), *range(20, 25)]


def test_it_says_whether_there_is_more(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE) as spool:
        assert spool.ledger.next_unacked(0) is None
        spool.writer.append([pending(0)])
        assert spool.ledger.next_unacked(0)
        (only,) = spool.reader.read(-1, ALL)
        assert spool.ledger.next_unacked(only.key + 1) is None


def test_what_was_just_appended_is_read_from_memory(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE, cache_bytes=5000) as spool:
        for n in range(3):
            spool.writer.append([pending(n, bytes(1000))])
        found = spool.reader.read(-1, ALL, from_disk=False)
        assert [headers.seq for headers in headers_of(records(spool))] == [0, 1, 2]
        assert [headers.seq for batch in found for headers in headers_of(batch.records)] == [0, 1]
        assert spool.reader.read(found[-1].key, ALL, from_disk=False) == []


def test_what_was_read_from_the_disk_before_it_was_cached_takes_no_memory() -> None:
    cache = BatchCache(10_000)
    cache.put([Batch(0, [], 1000), Batch(1, [], 1000), Batch(2, [], 1000)])
    assert cache.pop(1) == Batch(1, [], 1000)
    assert (cache.pop(0), cache.free_bytes) == (None, 9000)


def test_many_tiny_records_are_not_all_kept_in_memory(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE, cache_bytes=1 << 20) as spool:
        for n in range(20):
            spool.writer.append([pending(100 * n + k) for k in range(100)])
        kept = sum(len(batch.records) for batch in spool.reader.read(-1, ALL, from_disk=False))
    assert 900 <= kept <= 1100, "each takes about 1 kB, with its headers, though none of it is its value"


def test_one_thread_appends_while_another_reads_and_removes_at_once(tmp_path: Path) -> None:
    count = 3000
    seen: list[int] = []
    appended = threading.Event()
    with Spool(tmp_path, MIN_SPOOL_BYTES) as spool:  # its files are small, so they are created and removed often

        def drain() -> None:
            after = -1
            try:
                while len(seen) < count:
                    while not (found := spool.reader.read(after, 100_000)):
                        assert appended.wait(10)
                        appended.clear()
                    seen.extend(headers.seq for batch in found for headers in headers_of(batch.records))
                    spool.acknowledge([batch.key for batch in found])
                    after = found[-1].key
            finally:
                spool.ledger.stop()

        with ThreadPoolExecutor(1) as pool:
            draining = pool.submit(drain)
            for n in range(count):
                spool.writer.append([pending(n, bytes(20_000))])
                appended.set()
                spool.ledger.wait_for_space()
            draining.result(60)
    assert seen == list(range(count))


def test_recycled_files_return_only_what_was_appended_last(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    files = set()
    with Spool(root, MIN_SPOOL_BYTES) as spool:
        for n in range(60):
            spool.writer.append([pending(n, bytes([n]) * 10_000)])
            files |= {path.stat().st_ino for path in root.rglob("*.bundles")}
            found = spool.reader.read(n - 3, ALL)  # batches have the keys 0, 1, …
            if n < 58:
                spool.acknowledge([batch.key for batch in found if batch.key <= n - 2])
        assert len(files) <= 3, "they are the same few files, one after the other"
        killed = shutil.copytree(root, tmp_path / "killed")
    with Spool(killed, MIN_SPOOL_BYTES) as spool:
        assert [headers.seq for headers in headers_of(records(spool))] == [56, 57, 58, 59]
        assert [record.value for record in records(spool)] == [bytes([n]) * 10_000 for n in range(56, 60)]
        assert spool.ledger.waiting_bytes < 60_000
        assert spool.previous == (EPOCH, 59)


def test_a_file_that_a_large_frame_made_large_is_not_kept(tmp_path: Path) -> None:
    with Spool(tmp_path, MIN_SPOOL_BYTES) as spool:
        spool.writer.append([pending(0, bytes(500_000))])
        spool.acknowledge([batch.key for batch in spool.reader.read(-1, ALL)])
        assert sum(path.stat().st_size for path in (tmp_path / "spool").iterdir()) == 0


# -- reopening ------------------------------------------------------------------------------------------------


def test_everything_is_there_after_reopening(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE) as spool:
        assert spool.previous is None
        spool.writer.append([pending(n, os.urandom(5000)) for n in range(4)] + [pending(9, b"x", rejected=True)])
        before, size = spool.reader.read(-1, ALL), spool.ledger.waiting_bytes
    with Spool(tmp_path, SIZE) as spool:
        assert spool.reader.read(-1, ALL) == before
        assert (spool.ledger.waiting_batches, spool.ledger.waiting_bytes) == (1, size)
        assert spool.previous == (EPOCH, 3), "rejected frames have numbers of their own"
        spool.writer.append([pending(4)])
        assert spool.reader.read(before[-1].key, ALL)[0].key > before[-1].key


def test_the_last_number_outlives_its_record(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE) as spool:
        spool.writer.append([pending(41)])
        spool.acknowledge([one.key for one in spool.reader.read(-1, ALL)])
    with Spool(tmp_path, SIZE) as spool:
        assert (spool.previous, spool.ledger.waiting_batches) == ((EPOCH, 41), 0)


_ENDLESS = """
import sys
from pathlib import Path
from ingest.receive.record_builder import PendingRecord
from ingest.spool.spool import Spool
from g3stream.contract.headers import Kind, RecordHeaders
spool, n = Spool(Path(sys.argv[1]), 256 << 20), 0
while True:
    spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, "0" * 16, n), n, b"%d." % n * (n * 37 % 5000))])
    print(n, flush=True)
    n += 1
"""


@pytest.mark.parametrize("after", [1, 300])
def test_kill_9_loses_nothing_that_was_appended(tmp_path: Path, after: int) -> None:
    with subprocess.Popen([sys.executable, "-c", _ENDLESS, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        printed = [int(writer.stdout.readline()) for _ in range(after)]
        with pytest.raises(SpoolError, match="another ingest"):
            Spool(tmp_path, SIZE)
        writer.send_signal(signal.SIGKILL)
        printed += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith(b"\n")]
    with Spool(tmp_path, 256 << 20) as spool:
        found = records(spool)
        assert len(found) >= len(printed)
        assert [one.seq for one in headers_of(found)] == list(range(len(found)))
        assert all(one.value == b"%d." % n * (n * 37 % 5000) for n, one in enumerate(found))
        assert spool.previous == ("0" * 16, len(found) - 1)
        assert not spool.unclean_shutdown, "the host stayed up, so nothing is missing"


# -- refusing -------------------------------------------------------------------------------------------------


def test_a_second_one_is_refused_while_the_first_is_open(tmp_path: Path) -> None:
    with Spool(tmp_path, SIZE):
        with pytest.raises(SpoolError, match=f"another ingest .*{tmp_path}/lock"):
            Spool(tmp_path, SIZE)
        Spool(tmp_path / "other stream", SIZE).close()
    Spool(tmp_path, SIZE).close()


def test_one_that_could_not_be_opened_for_want_of_threads_can_be_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a service has reached its limit of threads: the process tries again."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="thread"):
            Spool(tmp_path / "spool", MIN_SPOOL_BYTES)
    Spool(tmp_path / "spool", MIN_SPOOL_BYTES).close()


def test_what_is_acknowledged_after_the_close_touches_no_file(tmp_path: Path) -> None:
    """By a publisher that had hung: the descriptors may be other files by then, and the directory another spool's."""
    spool = Spool(tmp_path / "spool", MIN_SPOOL_BYTES)
    spool.writer.append([pending(0)])
    spool.writer.append([pending(1)])
    found = spool.reader.read(-1, 1 << 20)
    spool.close()
    others = [tmp_path / f"other-{n}" for n in range(8)]
    opened = [path.open("w+b", buffering=0) for path in others]  # these have the numbers of the closed descriptors
    for file in opened:
        file.write(b"o" * 100)
    spool.acknowledge([batch.key for batch in found])
    assert spool.reader.read(-1, 1 << 20) == []
    for file in opened:
        file.close()
    assert {path.read_bytes() for path in others} == {b"o" * 100}
    with Spool(tmp_path / "spool", MIN_SPOOL_BYTES) as again:
        assert len(records(again)) == 2


def test_a_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SpoolError, match="--spool-dir"):
        Spool(tmp_path / "file", SIZE)
    with pytest.raises(SpoolError, match="--spool-dir"):
        Spool(tmp_path / "file" / "below", SIZE)


def test_a_size_too_small_to_hold_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="at least 1MiB"):
        Spool(tmp_path, MIN_SPOOL_BYTES - 1)


# -- full -----------------------------------------------------------------------------------------------------


def test_it_is_full_at_85_percent_and_has_room_again_at_75(tmp_path: Path) -> None:
    size = 4 << 20
    with Spool(tmp_path, size) as spool:
        fill(spool, bytes(20_000))
        assert HIGH_WATERMARK * size - 20_500 < spool.ledger.waiting_bytes < (HIGH_WATERMARK + 0.01) * size
        waiting = threading.Thread(target=spool.ledger.wait_for_space)
        waiting.start()
        for one in spool.reader.read(-1, ALL):
            if not spool.ledger.full:
                break
            assert waiting.is_alive()
            assert spool.ledger.waiting_bytes > (LOW_WATERMARK - 0.07) * size
            spool.acknowledge([one.key])
        assert (LOW_WATERMARK - 0.07) * size < spool.ledger.waiting_bytes <= LOW_WATERMARK * size, (
            "it is freed by files"
        )
        waiting.join(10)
        assert not waiting.is_alive()


def test_stop_ends_the_wait_for_space(tmp_path: Path) -> None:
    with Spool(tmp_path, 1 << 20) as spool:
        fill(spool, bytes(20_000))
        waiting = threading.Thread(target=spool.ledger.wait_for_space)
        waiting.start()
        spool.ledger.stop()
        waiting.join(10)
        assert not waiting.is_alive()


@pytest.mark.parametrize("length", [0, 300, 2000, 20_000])
def test_it_becomes_full_and_has_room_again_and_again(tmp_path: Path, length: int) -> None:
    with Spool(tmp_path, 1 << 20) as spool:
        for _ in range(6):
            assert fill(spool, bytes(length))
            for one in spool.reader.read(-1, ALL):
                if spool.ledger.full:
                    spool.acknowledge([one.key])


def test_a_start_with_a_full_spool_does_not_wait_for_room(tmp_path: Path) -> None:
    with Spool(tmp_path, 1 << 20) as spool:
        fill(spool, bytes(1000))
    with Spool(tmp_path, 1 << 20) as spool:
        where = StreamSettings("s", ClientEndpoint("127.0.0.1", 1), 5, 1 << 20, {}, None, 1 << 20)
        publisher = Publisher(where, spool, {"bootstrap.servers": "127.0.0.1:1"}, TopicWatch({}))
        start = threading.Thread(target=Stream, args=(where, spool, publisher), daemon=True)
        start.start()
        start.join(SECONDS)
        hangs = start.is_alive()
        spool.ledger.stop()
        start.join(10)
    assert not hangs


def test_each_time_that_reading_stops_is_counted(tmp_path: Path) -> None:
    frames = b"".join(scan(number, 10_000) for number in range(200))
    with Spool(tmp_path, 1 << 20) as spool, RawSender() as sender:
        where = StreamSettings("s", ClientEndpoint("127.0.0.1", sender.port), 30, 1 << 20, {}, None, 1 << 20)
        publisher = Publisher(where, spool, {"bootstrap.servers": "127.0.0.1:1"}, TopicWatch({}))
        stream = Stream(where, spool, publisher)
        running = threading.Thread(target=stream.run)
        running.start()
        with sender.accept() as connection:
            sending = threading.Thread(target=connection.sendall, args=(frames,))
            sending.start()
            eventually(lambda: stream.status().received.backpressure_events == 1, "the spool is full")
            spool.acknowledge([one.key for one in spool.reader.read(-1, ALL)])  # as the publisher would
            eventually(lambda: stream.status().received.backpressure_events == 2, "it is full again")
            stream.stop_requested.set()
            running.join(20)
            assert not running.is_alive()
        sending.join(10)


# -- clean and unclean ----------------------------------------------------------------------------------------

_LEFT_OPEN = """
import os, sys
from pathlib import Path
from ingest.receive.record_builder import PendingRecord
from ingest.spool.spool import Spool
from g3stream.contract.headers import Kind, RecordHeaders
spool = Spool(Path(sys.argv[1]), 1 << 20)
if sys.argv[2] == "record":
    spool.writer.append([PendingRecord(RecordHeaders(Kind.FRAME, "0" * 16, 3), 1)])
os._exit(0)
"""


def leave(path: Path, what: str) -> None:
    """Run a process that ends without closing its spool."""
    subprocess.run([sys.executable, "-c", _LEFT_OPEN, str(path), what], check=True)


def reboot(path: Path) -> None:
    """As if the host had been rebooted since: the ledger's boot id is another one."""
    state = LedgerState.unpacked((path / "state").read_bytes())
    assert state
    assert state.boot_id
    (path / "state").write_bytes(state._replace(boot_id=b"another").packed())


def test_where_a_reboot_of_the_host_cannot_be_detected_there_may_have_been_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without /proc/sys, as with ProcSubset=pid."""
    leave(tmp_path, "record")
    with monkeypatch.context() as without:
        without.setattr("ingest.spool.recovery._BOOT_ID", tmp_path / "gone")
        with Spool(tmp_path, 1 << 20) as spool:
            assert spool.unclean_shutdown
            assert "can't detect reboots of this host" in caplog.text
        with Spool(tmp_path, 1 << 20) as spool:
            assert not spool.unclean_shutdown, "it was shut down cleanly"
    with Spool(tmp_path, 1 << 20) as spool:
        assert not spool.unclean_shutdown


def test_a_new_spool_is_not_unclean(tmp_path: Path) -> None:
    with Spool(tmp_path, 1 << 20) as spool:
        assert not spool.unclean_shutdown


def test_unclean_is_a_reboot_without_a_clean_exit_and_only_once(tmp_path: Path) -> None:
    leave(tmp_path, "record")
    reboot(tmp_path)
    with Spool(tmp_path, 1 << 20) as spool:
        assert spool.unclean_shutdown
        assert spool.previous == ("0" * 16, 3)
    with Spool(tmp_path, 1 << 20) as spool:
        assert not spool.unclean_shutdown


def test_a_reboot_after_a_clean_exit_is_clean(tmp_path: Path) -> None:
    with Spool(tmp_path, 1 << 20) as spool:
        spool.writer.append([pending(1)])
    reboot(tmp_path)
    with Spool(tmp_path, 1 << 20) as spool:
        assert not spool.unclean_shutdown


def test_a_process_killed_without_a_reboot_is_clean(tmp_path: Path) -> None:
    leave(tmp_path, "record")
    with Spool(tmp_path, 1 << 20) as spool:
        assert not spool.unclean_shutdown


def test_a_reboot_before_the_first_record_is_clean(tmp_path: Path) -> None:
    leave(tmp_path, "nothing")
    reboot(tmp_path)
    with Spool(tmp_path, 1 << 20) as spool:
        assert not spool.unclean_shutdown


# -- against a model ------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 9000), min_size=1, max_size=4).map(lambda sizes: ("append", sizes)),
        st.lists(st.integers(0, 30), max_size=5).map(lambda places: ("remove", places)),
        st.just(("reopen", [])),
    ),
    max_size=12,
)


def with_what_came_back(
    spool: Spool, model: list[list[tuple[int, bytes]]], ever: list[list[tuple[int, bytes]]]
) -> list[list[tuple[int, bytes]]]:
    """The model after a restart: what was acknowledged while an earlier batch was not may be there again."""
    there = {headers.seq for headers in headers_of(records(spool))}
    for batch in model:
        assert {seq for seq, _ in batch} <= there
    return [batch for batch in ever if batch[0][0] in there and (not model or batch >= model[0])] if model else []


@given(STEPS)
@settings(max_examples=25, deadline=None)
def test_it_is_a_list(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, list[int]]]) -> None:
    directory = tmp_path_factory.mktemp("spool")
    model: list[list[tuple[int, bytes]]] = []  # what came together is removed together
    ever: list[list[tuple[int, bytes]]] = []
    seq = 0
    spool = Spool(directory, 8 << 20)
    try:
        for what, numbers in steps:
            if what == "append":
                new = [(seq + n, os.urandom(size)) for n, size in enumerate(numbers)]
                spool.writer.append([pending(number, value) for number, value in new])
                model += [new]
                ever += [new]
                seq += len(new)
            elif what == "remove":
                keys = [one.key for one in spool.reader.read(-1, ALL)]
                spool.acknowledge([keys[place] for place in numbers if place < len(keys)])
                model = [one for place, one in enumerate(model) if place not in numbers]
            else:
                spool.close()
                spool = Spool(directory, 8 << 20)
                assert spool.previous == ((EPOCH, seq - 1) if seq else None)
                model = with_what_came_back(spool, model, ever)
            found = records(spool)
            expected = [one for batch in model for one in batch]
            assert [(h.seq, one.value) for h, one in zip(headers_of(found), found, strict=True)] == expected
            assert spool.ledger.waiting_batches == len(model)
    finally:
        spool.close()
