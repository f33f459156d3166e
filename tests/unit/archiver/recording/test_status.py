"""The problems that an archiver reports: each fault at once, with one reason, and nothing that is healthy."""

from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from archiver.kafka.commit_errors import CommitErrors
from archiver.recording.finalizer_status import FinalizeProgress, FinalizeStatus, FinalizeStep
from archiver.recording.status import ArchiveStatus
from g3stream.host.activity import Activity, Hang
from tests.unit.test_metrics import ARCHIVE, NOW, recording

ENDED = FinalizeStatus("17000/slot/x_000.g3", 7.0, FinalizeStep.PUBLISH, "[Errno 5] Input/output error")
UNPUBLISHED = replace(ENDED, step=FinalizeStep.PUBLISH_EVENT, error="Broker: Message size too large", of_kafka=True)
SLOWLY = replace(ENDED, step=FinalizeStep.READ_BACK, error=None)
HANGING = replace(ENDED, error=None, total_s=40.0, step_s=21.0)


def problems(status: ArchiveStatus, **changes: Any) -> list[str]:
    return list(replace(status, streams=(recording(**changes),)).problems(NOW))


IDLE: list[dict[str, object]] = [
    {},
    {"file": None, "next_offset": 130, "time_ms": 0},
    {"uncommitted_s": 14.0},
    {"syncing_s": 9.0, "uncommitted_s": 14.0},
    {"finalizing": replace(ENDED, total_s=4.0)},
    {"finalizing": replace(SLOWLY, total_s=59.0, step_s=59.0)},
    {"finalizing": replace(HANGING, step_s=19.0)},
    {"commit_error": "Broker: Group rebalance in progress", "uncommitted_s": 2.0},
]


@pytest.mark.parametrize("changes", IDLE)
def test_what_takes_no_longer_than_it_may_is_no_problem(changes: dict[str, object]) -> None:
    assert problems(ARCHIVE, **changes) == []


PROBLEMS: list[tuple[dict[str, object], str]] = [
    ({"uncommitted_s": 16.0}, "slot: records of 16 s ago aren't committed: Kafka doesn't answer its commits"),
    ({"uncommitted_s": 16.0, "commit_error": "why"}, "slot: records of 16 s ago aren't committed: why"),
    ({"uncommitted_s": 16.0, "syncing_s": 12.0}, "the data disk doesn't answer: a sync has taken 12 s, of slot"),
    ({"uncommitted_s": 16.0, "error": "full"}, "slot: can't write: full"),
    (
        {"uncommitted_s": 16.0, "finalizing": ENDED},
        "slot: 17000/slot/x_000.g3 isn't finished 7 s after its end: publishing: [Errno 5] Input/output error",
    ),
    (
        {"finalizing": replace(SLOWLY, total_s=61.0)},
        "slot: 17000/slot/x_000.g3 isn't finished 61 s after its end: still reading back",
    ),
    ({"error": "full", "next_offset": 1, "time_ms": 1}, "slot: can't write: full"),
    (
        {"finalizing": ENDED, "next_offset": 1, "time_ms": 1},
        "slot: 17000/slot/x_000.g3 isn't finished 7 s after its end: publishing: [Errno 5] Input/output error",
    ),
    (
        {"finalizing": HANGING, "next_offset": 1, "time_ms": 1},
        "the data disk doesn't answer: finishing a file (publishing) has taken 21 s, of slot",
    ),
]


@pytest.mark.parametrize(("changes", "said"), PROBLEMS)
def test_each_fault_of_a_stream_is_reported_once(changes: dict[str, object], said: str) -> None:
    assert problems(ARCHIVE, **changes) == [said]


OF_ALL = [
    (replace(ARCHIVE, kafka_error="away"), "Kafka: away"),
    (replace(ARCHIVE, kafka_error="away", throttled="Kafka throttles this program"), "Kafka throttles this program"),
    (replace(ARCHIVE, commit_error="why"), "Kafka refuses commits: why"),
    (
        replace(ARCHIVE, unpublished="why"),
        "losses and finished files can't be published on g3.files, so their streams wait: why",
    ),
    (replace(ARCHIVE, turn_s=12.0), "nothing has been recorded for 12 s: it waits for Kafka or for a disk"),
    (
        replace(ARCHIVE, turn_s=12.0, hanging_write=Hang("a write to the file of slot", 12.0)),
        "the data disk doesn't answer: a write to the file of slot has taken 12 s",
    ),
]


@pytest.mark.parametrize(("status", "said"), OF_ALL)
@pytest.mark.parametrize("recording", [{"uncommitted_s": 60.0}, {"finalizing": replace(UNPUBLISHED, total_s=60.0)}])
def test_what_is_wrong_for_all_streams_isnt_reported_of_each(
    status: ArchiveStatus, said: str, recording: dict[str, object]
) -> None:
    assert problems(status, **recording) == [said]


def test_a_file_that_a_disk_refuses_is_reported_whatever_kafka_does() -> None:
    assert len(problems(replace(ARCHIVE, kafka_error="away"), finalizing=ENDED)) == 2


def test_a_sync_that_hangs_is_reported_once_for_all_streams() -> None:
    slots = tuple(recording(stream=f"slot{n}", syncing_s=10.0 + n, uncommitted_s=20.0) for n in (1, 2, 3))
    found = list(replace(ARCHIVE, streams=slots).problems(NOW))
    assert found == ["the data disk doesn't answer: a sync has taken 13 s, of slot1, slot2, slot3"]


def test_an_activity_that_hangs_is_seen_from_outside_and_one_that_ends_isnt(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("g3stream.host.activity.time.monotonic", lambda: now[0])
    activity = Activity()
    assert activity.hang() is None
    with activity.track("a write"):
        now[0] = 109.0
        assert activity.hang() is None
        now[0] = 111.0
        assert activity.hang() == Hang("a write", 11.0)
    assert activity.hang() is None


def test_the_step_of_finishing_its_error_and_its_age_are_shown() -> None:
    progress = FinalizeProgress("x_000.g3")
    assert progress.status().step is FinalizeStep.WAIT
    progress.start_step(FinalizeStep.PUBLISH)
    progress.step_failed(OSError(5, "no"))
    assert (progress.status().step, progress.status().error) == (FinalizeStep.PUBLISH, "[Errno 5] no")
    progress.start_step(FinalizeStep.PUBLISH_EVENT)
    assert progress.status().error is None
    progress.step_failed(KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)))
    assert progress.status().of_kafka


def test_a_refused_commit_is_reported_once_with_what_to_do_and_a_temporary_one_never(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = CommitErrors("archiver")
    errors.on_failure("slot1", KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS)))
    assert errors.operator_error() is None
    assert errors.error_of("slot1") is not None
    for _ in range(10):
        for stream in ("slot1", "slot2"):
            errors.on_failure(stream, KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "allow this user READ on the consumer group archiver" in line
    assert "READ on the consumer group archiver" in str(errors.operator_error())
    errors.discard("slot1")  # another archiver has it now
    assert errors.operator_error() is not None
    errors.on_success("slot2")
    assert errors.operator_error() is None
    errors.on_failure("slot1", KafkaException(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)))
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2, "it is another time"
