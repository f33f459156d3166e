"""Metrics of ingest and archiver: latency histograms, each stream's values, and health."""

import json
import os
import platform
import re
import tracemalloc
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from archiver.core.events import RecordsLost
from archiver.event_counters import EventCounters
from archiver.metrics import metrics as archiver_metrics
from archiver.metrics import problems as archiver_problems
from archiver.recording.status import ArchiveStatus, ConsumedStatus, RecordedStatus, RecorderStatus
from archiver.recording.throughput import Throughput
from archiver.segments.open_segment import OpenFileStatus
from g3stream.contract.sequence import LossCause
from g3stream.host.activity import Hang
from g3stream.log.writer import LogStatus
from g3stream.service.histogram import BOUNDS_SECONDS, LatencyHistogram
from g3stream.service.metrics import MetricsSnapshot
from g3stream.service.timeouts import DiskSpace
from ingest.metrics import metrics as ingest_metrics
from ingest.metrics import problems
from ingest.status import PublishStatus, ReceiveStatus, SpoolStatus, StoppedStream, StreamStatus

ROOT = Path(__file__).parents[2]
NOW = 1_700_000_000.0
ALL_IS_WRITTEN = LogStatus()
UNREAD = LogStatus(7, "the log hasn't been written for 40 s")
MS = 1_700_000_000_000

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: bytes) -> Samples:
    """Return the values by name and labels; each exists once."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def test_both_programs_report_their_versions() -> None:
    librdkafka = confluent_kafka.libversion()[0]
    versions = {"version": version("g3-recorder"), "python": platform.python_version(), "librdkafka": librdkafka}
    labels = tuple(sorted(versions.items()))
    ingest = samples(ingest_metrics([STREAM], ALL_IS_WRITTEN, Path("/"), DiskSpace(), NOW))
    assert ingest["g3_ingest_build_info", labels] == 1
    assert of_archiver(ARCHIVE, EventCounters())["g3_archiver_build_info", labels] == 1


def test_the_reference_has_each_metric_with_its_labels_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(g3_\w+?)(?:_total)?` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    pinned = json.loads((ROOT / "tests" / "golden" / "data" / "metrics.json").read_text())
    of_a_disk = {f"g3_ingest_spool_disk_{what}_bytes": ["gauge", "stream"] for what in ("free", "size")}
    ours = {name: values for name, values in {**pinned, **of_a_disk}.items() if name.startswith("g3_")}
    assert {name: [kind, *sorted(re.findall(r"\w+", labels))] for name, kind, labels in rows} == {
        name: [kind, *(label for label in labels if label != "le")] for name, (kind, *labels) in ours.items()
    }
    assert len(rows) == len(ours)


# Latencies


@given(st.lists(st.tuples(st.floats(-10, 10_000), st.integers(1, 5))))
def test_a_histogram_counts_each_time_in_every_bucket_that_it_fits_in(took: list[tuple[float, int]]) -> None:
    latency = LatencyHistogram()
    for seconds, times in took:
        latency.observe(seconds, times)
    shown = MetricsSnapshot("t_")
    shown.labelled(stream="s").histogram("seconds", "…", latency.counts())
    found = samples(shown.render())
    all_of_them = [max(0.0, seconds) for seconds, times in took for _ in range(times)]
    for bound in BOUNDS_SECONDS:
        key = "t_seconds_bucket", (("le", str(bound)), ("stream", "s"))
        assert found[key] == sum(seconds <= bound for seconds in all_of_them)
    assert found["t_seconds_bucket", (("le", "+Inf"), ("stream", "s"))] == len(all_of_them)
    assert found["t_seconds_count", (("stream", "s"),)] == len(all_of_them)
    assert found["t_seconds_sum", (("stream", "s"),)] == pytest.approx(sum(all_of_them))


def counted(recorded: Throughput) -> tuple[int, int, float]:
    found = recorded.status()
    return found.frames, found.bytes, found.latency.total_s


def test_a_frame_is_counted_when_it_is_durable_with_its_latency_until_then() -> None:
    recorded = Throughput()
    recorded.on_write(MS, 100)
    recorded.on_write(MS, 100)
    recorded.mark()
    recorded.on_write(MS, 7)  # while the others are being made durable
    recorded.on_write(MS + 500, 7)
    assert recorded.status().frames == 0
    recorded.on_durable(MS + 1500)
    assert counted(recorded) == (2, 200, 3.0)
    recorded.mark()
    recorded.on_durable(MS + 2000)
    assert counted(recorded) == (4, 214, 3.0 + 2.0 + 1.5)


def test_without_a_commit_for_hours_the_times_of_frames_do_not_fill_the_memory() -> None:
    recorded = Throughput()
    tracemalloc.start()
    try:
        for n in range(200_000):
            recorded.on_write(5 * n, 1000)
            if n % 200 == 0:
                recorded.mark()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    recorded.mark()
    recorded.on_durable(1_000_000)
    assert held < 4 << 20
    assert counted(recorded)[:2] == (200_000, 200_000_000)
    assert sum(recorded.status().latency.counts) == 200_000


def test_frames_rolled_back_are_not_counted_and_frames_written_again_are_counted_once() -> None:
    recorded = Throughput()
    recorded.on_write(MS, 100)
    recorded.mark()
    recorded.rollback()
    recorded.on_write(MS, 100)
    recorded.mark()
    recorded.on_durable(MS + 1000)
    recorded.mark()
    recorded.on_durable(MS + 9000)
    assert counted(recorded) == (1, 100, 1.0)


# ingest

STREAM = StreamStatus(
    "slot",
    ReceiveStatus(
        source="smurf:4532",
        since_ms=MS - 5000,
        peer="10.0.0.1:4532",
        acquiring=True,
        connections=3,
        frames=10,
        bytes=1000,
        last_frame_ms=MS - 500,
        rejected=2,
        backpressure_events=1,
    ),
    SpoolStatus(4000, full=False, limit_bytes=9000, unreadable_batches=0),
    PublishStatus(acknowledged_offset=7, oldest_unacked_ms=MS - 2500, latency=LatencyHistogram().counts()),
)
SILENT = replace(STREAM.published, oldest_unacked_ms=MS - 31_000)
UNCONNECTED = replace(STREAM.received, peer=None, disconnect_reason="reset")


def of_ingest(status: StreamStatus, spool_dir: Path = Path("/")) -> dict[str, float]:
    found = samples(ingest_metrics([status], ALL_IS_WRITTEN, spool_dir, DiskSpace(), NOW))
    return {name: value for (name, labels), value in found.items() if labels == (("stream", "slot"),)}


def test_ingest_reports_its_connection_its_frames_and_its_spool(tmp_path: Path) -> None:
    (tmp_path / "slot").mkdir()
    found = of_ingest(STREAM, tmp_path)
    expected = {
        "healthy": 1,
        "connected": 1,
        "acquiring": 1,
        "reconnects_total": 2,
        "frames_total": 10,
        "frame_bytes_total": 1000,
        "last_frame_timestamp_seconds": NOW - 0.5,
        "rejected_frames_total": 2,
        "stalls_total": 1,
        "spool_bytes": 4000,
        "spool_limit_bytes": 9000,
        "spool_oldest_age_seconds": 2.5,
    }
    assert {name: found[f"g3_ingest_{name}"] for name in expected} == expected
    assert 0 < found["g3_ingest_spool_disk_free_bytes"] < found["g3_ingest_spool_disk_size_bytes"]


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (replace(STREAM, received=UNCONNECTED), "no connection to smurf:4532 (closed: reset)"),
        (replace(STREAM, degraded_reason="the spool is full"), "the spool is full"),
        (
            replace(STREAM, hang=Hang("a sync of the spool", 12.3), degraded_reason="Kafka is away"),
            "the spool's disk doesn't answer: a sync of the spool has taken 12 s",
        ),
        (
            replace(STREAM, published=SILENT, spool=replace(STREAM.spool, bytes=4_000_000)),
            "Kafka hasn't acknowledged records received 31 s ago; 4.0 MB wait in the spool",
        ),
        (replace(STREAM, published=replace(SILENT, throttled_reason="a quota")), "a quota"),
    ],
)
def test_an_ingest_with_a_problem_is_not_healthy_and_reports_it(status: StreamStatus, problem: str) -> None:
    assert list(status.problems(NOW)) == [problem]
    assert of_ingest(status)["g3_ingest_healthy"] == 0


def test_before_the_first_frame_and_without_its_disk_the_rest_is_reported(tmp_path: Path) -> None:
    received, spool = replace(STREAM.received, last_frame_ms=None), replace(STREAM.spool, bytes=0)
    found = of_ingest(replace(STREAM, received=received, spool=spool), tmp_path / "gone")
    assert "g3_ingest_last_frame_timestamp_seconds" not in found, "1970 would be wrong"
    assert "g3_ingest_spool_disk_free_bytes" not in found
    assert found["g3_ingest_spool_oldest_age_seconds"] == 0
    assert found["g3_ingest_connected"] == 1


def test_each_of_several_streams_is_reported_and_one_that_is_down_as_such(tmp_path: Path) -> None:
    for name in ("slot", "down"):
        (tmp_path / name).mkdir()
    streams: list[StreamStatus | StoppedStream] = [STREAM, StoppedStream("down", "its spool is locked")]
    found = samples(ingest_metrics(streams, ALL_IS_WRITTEN, tmp_path, DiskSpace(), NOW))
    for metric in ("healthy", "connected", "acquiring"):
        values = [found[f"g3_ingest_{metric}", (("stream", name),)] for name in ("slot", "down")]
        assert values == [1, 0]
    assert found["g3_ingest_spool_disk_free_bytes", (("stream", "down"),)] > 0
    assert ("g3_ingest_frames_total", (("stream", "down"),)) not in found, "0 would be wrong"
    assert list(problems(streams, ALL_IS_WRITTEN, NOW)) == ["down: its spool is locked"]
    assert list(
        problems([replace(STREAM, received=replace(STREAM.received, peer=None)), *streams], ALL_IS_WRITTEN, NOW)
    ) == [
        "slot: no connection to smurf:4532",
        "down: its spool is locked",
    ]
    assert list(problems([replace(STREAM, received=replace(STREAM.received, peer=None))], ALL_IS_WRITTEN, NOW)) == [
        "no connection to smurf:4532"
    ], "there is only one stream"


# archiver

RECORDING = RecorderStatus(
    "slot",
    ConsumedStatus(100, 130, MS - 4000, duplicates=3, interleaved_producers=1, delivery_faults=2, quarantined=6),
    RecordedStatus(80, 8000, LatencyHistogram().counts()),
    OpenFileStatus("17000/slot/x_000.g3", MS - 60_000, 500, 400, 5, None),
    90,
)


def recording(**changes: Any) -> RecorderStatus:
    """RECORDING with these changes, which may be some of what it has consumed."""
    consumed = {name: changes.pop(name) for name in ("next_offset", "end_offset", "time_ms") if name in changes}
    return replace(RECORDING, consumed=replace(RECORDING.consumed, **consumed), **changes)


ARCHIVE = ArchiveStatus((RECORDING,), None, 0.1, LatencyHistogram().counts(), LatencyHistogram().counts())


def of_archiver(status: ArchiveStatus | None, counters: EventCounters, log: LogStatus = ALL_IS_WRITTEN) -> Samples:
    return samples(archiver_metrics(status, counters, log, os.statvfs("/"), (), None, NOW))


def test_an_archiver_reports_each_streams_lag_and_what_it_has_recorded() -> None:
    found = of_archiver(ARCHIVE, EventCounters())
    expected = {
        "stopped": 0,
        "taking_up_seconds": 0,
        "lag_records": 30,
        "lag_seconds": 4,
        "last_record_timestamp_seconds": NOW - 4,
        "open_file_bytes": 500,
        "open_file_age_seconds": 60,
        "frames_total": 80,
        "frame_bytes_total": 8000,
        "duplicate_records_total": 3,
        "two_ingests_total": 1,
        "misdeliveries_total": 2,
        "quarantined_records_total": 6,
        "missing_frames_total": 0,
    }
    assert {name: found[f"g3_archiver_{name}", (("stream", "slot"),)] for name in expected} == expected
    assert found["g3_archiver_healthy", ()] == 1
    assert found["g3_archiver_data_free_bytes", ()] < found["g3_archiver_data_size_bytes", ()]


def test_losses_are_counted_by_cause_from_zero_and_kept_when_the_stream_is_revoked() -> None:
    counters = EventCounters()
    labels = {cause: (("cause", cause.value), ("stream", "slot")) for cause in LossCause}
    before = of_archiver(ARCHIVE, counters)
    assert [before["g3_archiver_losses_total", labels[cause]] for cause in LossCause] == [0] * len(LossCause)
    for records in (5, None):
        counters.on_published(RecordsLost("g", "slot", records, f"{records}", 3, None, MS, "host", LossCause.DELETED))
    found = of_archiver(replace(ARCHIVE, streams=()), counters)
    assert found["g3_archiver_losses_total", labels[LossCause.DELETED]] == 2
    assert found["g3_archiver_lost_records_total", labels[LossCause.DELETED]] == 5
    assert sum(found["g3_archiver_losses_total", labels[cause]] for cause in LossCause) == 2


def test_a_loss_published_again_after_a_failed_commit_is_counted_once() -> None:
    counters = EventCounters()
    for _ in range(3):
        counters.on_published(RecordsLost("g", "slot", 5, "a:1 to a:5", 7, None, MS, "host", LossCause.MISSING))
    counters.on_published(RecordsLost("g", "slot", 2, "a:8 to a:9", 9, None, MS + 1, "host", LossCause.MISSING))
    assert (counters.losses["slot", LossCause.MISSING], counters.lost_records["slot", LossCause.MISSING]) == (2, 7)


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (replace(ARCHIVE, kafka_error="no answer"), "Kafka: no answer"),
        (replace(ARCHIVE, turn_s=31.0), "nothing has been recorded for 31 s: it waits for Kafka or for a disk"),
        (replace(ARCHIVE, streams=(recording(error="full"),)), "slot: can't write: full"),
        (replace(ARCHIVE, streams=(recording(halted="no sense"),)), "slot: stopped no sense"),
        (replace(ARCHIVE, streams=(recording(error="full", recovering_s=9.0),)), "slot: can't write: full"),
        (
            replace(ARCHIVE, streams=(recording(recovering_s=76.0),)),
            "slot: not recorded for 76 s: its open file is being copied or salvaged, or g3.files searched",
        ),
        (replace(ARCHIVE, streams=(recording(resume_error="no"),)), "slot: Kafka doesn't deliver it: no"),
        (
            replace(ARCHIVE, unpublished="too large"),
            "losses and finished files can't be published on g3.files, so their streams wait: too large",
        ),
        (replace(ARCHIVE, kafka_error="no answer", unpublished="no answer"), "Kafka: no answer"),
        (replace(ARCHIVE, streams=(recording(time_ms=MS - 31_000),)), "slot: 31 s behind"),
    ],
)
def test_an_archiver_with_a_problem_is_not_healthy_and_reports_it(status: ArchiveStatus, problem: str) -> None:
    assert list(status.problems(NOW)) == [problem]
    assert of_archiver(status, EventCounters())["g3_archiver_healthy", ()] == 0


def test_a_stream_that_is_recovered_quickly_is_no_problem() -> None:
    status = replace(ARCHIVE, streams=(recording(recovering_s=1.5),))
    assert list(status.problems(NOW)) == []
    assert of_archiver(status, EventCounters())["g3_archiver_taking_up_seconds", (("stream", "slot"),)] == 1.5


def test_an_archiver_that_has_recorded_all_is_not_late_however_old_the_last_frame() -> None:
    status = replace(ARCHIVE, streams=(recording(time_ms=MS - 3_600_000, end_offset=100),))
    assert list(status.problems(NOW)) == []


def test_an_archiver_that_has_not_begun_is_not_healthy() -> None:
    assert of_archiver(None, EventCounters())["g3_archiver_healthy", ()] == 0


def test_an_unread_log_is_a_problem_and_its_dropped_lines_are_counted(tmp_path: Path) -> None:
    found = samples(ingest_metrics([STREAM], UNREAD, tmp_path, DiskSpace(), NOW))
    assert found["g3_ingest_log_dropped_lines_total", ()] == 7
    assert found["g3_ingest_healthy", (("stream", STREAM.stream),)] == 0
    assert list(problems([STREAM], UNREAD, NOW)) == [UNREAD.problem]
    recorded = of_archiver(ARCHIVE, EventCounters(), UNREAD)
    assert recorded["g3_archiver_log_dropped_lines_total", ()] == 7
    assert recorded["g3_archiver_healthy", ()] == 0
    assert list(archiver_problems(ARCHIVE, UNREAD, NOW)) == [UNREAD.problem]
    assert list(archiver_problems(None, ALL_IS_WRITTEN, NOW)) == ["it is still starting"]
