"""Topic settings: what a topic must be, compared with what was found."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g3stream.contract.topic_settings import (
    EXPECTED_FILES_TOPIC,
    MIN_MESSAGE_BYTES,
    Difference,
    ExpectedTopic,
    FoundTopic,
    Role,
    Severity,
    differences,
)
from g3stream.contract.topics import frames_topic, rejected_topic

FRAMES = ExpectedTopic(frames_topic("s"), Role.FRAMES)
REJECTED = ExpectedTopic(rejected_topic("s"), Role.REJECTED)
SERVERS = "kafka1:9092,kafka2:9092"

BROKER_DEFAULTS: Mapping[str, str] = {
    # What Kafka 4.1 gives a topic that it creates because a client requested it.
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": "3600000",
    "min.insync.replicas": "1",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
    "segment.bytes": "1073741824",
    "unclean.leader.election.enable": "false",
}


def found(wanted: ExpectedTopic, config: Mapping[str, str] | None = None, partitions: int = 1) -> FoundTopic:
    """A topic as we create it on one broker, except for these settings."""
    copies = {number: (1,) for number in range(partitions)}
    return FoundTopic(copies, (1,), {**BROKER_DEFAULTS, **wanted.config, **(config or {})})


def by_setting(expected: ExpectedTopic, existing: FoundTopic) -> dict[str, Difference]:
    return {difference.setting: difference for difference in differences(expected, existing, SERVERS)}


@pytest.mark.parametrize("wanted", [FRAMES, REJECTED, EXPECTED_FILES_TOPIC], ids=lambda w: w.name)
def test_nothing_is_wrong_with_a_topic_that_we_create(wanted: ExpectedTopic) -> None:
    assert by_setting(wanted, found(wanted)) == {}


def test_a_topic_that_the_broker_created_has_none_of_the_requested_settings() -> None:
    requested = {"min.insync.replicas": "2", "retention.ms": "-1"}
    wanted = ExpectedTopic(frames_topic("s"), Role.FRAMES, requested, replication_factor=3)
    wrong = by_setting(wanted, FoundTopic({0: (2,)}, (1, 2, 3, 4), BROKER_DEFAULTS))
    assert {setting: difference.severity for setting, difference in wrong.items()} == {
        "replication factor": Severity.AT_RISK,
        "min.insync.replicas": Severity.AT_RISK,
        "retention.ms": Severity.AT_RISK,
        "message.timestamp.after.max.ms": Severity.REPORT,
    }
    command = f"kafka-configs.sh --bootstrap-server {SERVERS} --alter --entity-type topics --entity-name g3.frames.s"
    assert wrong["retention.ms"].remedy == f"{command} --add-config retention.ms=-1"
    plan = '{"version":1,"partitions":[{"topic":"g3.frames.s","partition":0,"replicas":[2,1,3]}]}'
    assert f"echo '{plan}'" in wrong["replication factor"].remedy


def test_more_copies_than_brokers_have_no_remedy() -> None:
    wrong = by_setting(replace(FRAMES, replication_factor=3), found(FRAMES))["replication factor"]
    assert "has 1 copy, where 3 were requested, and the cluster has 1 brokers" in str(wrong)
    assert wrong.remedy == ""


@pytest.mark.parametrize(
    ("setting", "value", "frames", "files"),
    [
        ("cleanup.policy", "compact", Severity.REFUSE, Severity.AT_RISK),
        ("cleanup.policy", "delete, compact", Severity.REFUSE, Severity.AT_RISK),
        ("cleanup.policy", "", None, None),
        ("max.message.bytes", str(MIN_MESSAGE_BYTES - 1), Severity.REFUSE, None),
        ("max.message.bytes", str(MIN_MESSAGE_BYTES), None, None),
        ("max.message.bytes", "1000", Severity.REFUSE, Severity.AT_RISK),
        ("message.timestamp.type", "LogAppendTime", Severity.REFUSE, Severity.REPORT),
        ("message.timestamp.before.max.ms", "3600000", Severity.AT_RISK, Severity.REPORT),
        ("message.timestamp.after.max.ms", "3600000", Severity.REPORT, Severity.REPORT),
        ("retention.ms", "604800000", None, Severity.AT_RISK),
        ("retention.ms", "60000", Severity.REPORT, Severity.AT_RISK),
        ("retention.bytes", "1000000000", None, Severity.AT_RISK),
        ("min.insync.replicas", "2", Severity.REPORT, Severity.REPORT),
        ("unclean.leader.election.enable", "true", Severity.REPORT, Severity.REPORT),
    ],
)
def test_what_a_setting_means(setting: str, value: str, frames: Severity | None, files: Severity | None) -> None:
    for wanted, expected in ((FRAMES, frames), (EXPECTED_FILES_TOPIC, files)):
        wrong = by_setting(wanted, found(wanted, {setting: value}))
        assert {name: difference.severity for name, difference in wrong.items()} == (
            {setting: expected} if expected else {}
        )
        if expected:
            assert f"{setting}={value}" in str(wrong[setting])
            assert f"--entity-name {wanted.name} --add-config {setting}=" in wrong[setting].remedy


def test_a_setting_that_keeps_more_than_requested_is_no_risk() -> None:
    requested = {"retention.bytes": "1000000000", "min.insync.replicas": "1"}
    wanted = replace(FRAMES, requested=requested, replication_factor=1)
    more = {"retention.bytes": "-1", "min.insync.replicas": "2"}
    wrong = by_setting(wanted, replace(found(wanted, more), replicas={0: (1, 2, 3)}))
    assert {difference.severity for difference in wrong.values()} == {Severity.REPORT}


def test_every_other_requested_setting_is_compared() -> None:
    wanted = ExpectedTopic(frames_topic("s"), Role.FRAMES, {"segment.bytes": "1000000", "compression.type": "zstd"})
    existing = found(wanted, {"segment.bytes": "2000000"})
    assert [str(difference) for difference in differences(wanted, existing, SERVERS)] == [
        "the topic g3.frames.s has segment.bytes=2000000, and 1000000 was requested; to fix it: "
        f"kafka-configs.sh --bootstrap-server {SERVERS} --alter --entity-type topics --entity-name g3.frames.s "
        "--add-config segment.bytes=1000000"
    ]


def test_no_remedy_breaks_a_topic_that_accepts_records() -> None:
    wanted = ExpectedTopic(frames_topic("s"), Role.FRAMES, {"cleanup.policy": "compact", "max.message.bytes": "1000"})
    assert differences(wanted, found(FRAMES), SERVERS) == []


def test_rejected_frames_stay_bounded_whatever_was_requested_for_the_others() -> None:
    wanted = ExpectedTopic(rejected_topic("s"), Role.REJECTED, {"retention.bytes": "-1"})
    assert wanted.config["retention.bytes"] == str(1 << 30)
    wrong = by_setting(wanted, found(wanted, {"retention.bytes": "-1"}))["retention.bytes"]
    assert wrong.severity is Severity.REPORT
    assert wrong.remedy.endswith("retention.bytes=1073741824")


def test_a_topic_with_several_partitions_is_used() -> None:
    wanted = FRAMES
    wrong = by_setting(wanted, found(wanted, partitions=3))["partitions"]
    assert (wrong.severity, wrong.remedy) == (Severity.REPORT, "")


def test_records_in_other_partitions_are_reported_without_a_remedy_that_deletes_them() -> None:
    wanted = FRAMES
    wrong = by_setting(wanted, replace(found(wanted, partitions=3), other_partitions={2: (5, 450), 1: (0, 1)}))[
        "partitions"
    ]
    assert wrong.severity is Severity.AT_RISK
    assert "partition 1 (offsets 0 to 0), partition 2 (offsets 5 to 449): these aren't recorded" in str(wrong)
    assert "delete" not in str(wrong).lower()
    assert wrong.remedy == (
        "archiver quarantine --stream s --partition 1 --offset 0 && "
        "archiver quarantine --stream s --partition 2 --offset 449"
    )
    more = by_setting(wanted, replace(found(wanted, partitions=3), other_partitions={2: (5, 900), 1: (0, 7)}))[
        "partitions"
    ]
    assert wrong.key == more.key, "more records are not logged again"


def test_settings_that_we_may_not_read_are_reported_and_stop_nothing() -> None:
    wrong = by_setting(FRAMES, replace(found(FRAMES), config=None))
    assert {setting: difference.severity for setting, difference in wrong.items()} == {
        "DescribeConfigs": Severity.REPORT
    }


VALUES = st.one_of(
    st.sampled_from(["", "-1", "0", "1", "x", "compact", "delete,compact", "LogAppendTime", str(2**63 - 1)]),
    st.integers(-1, 2**63 - 1).map(str),
    st.text("x1-, _", max_size=5),
)
SETTINGS = st.dictionaries(st.sampled_from([*BROKER_DEFAULTS, "other.setting"]), VALUES)


@given(
    st.sampled_from(Role),
    SETTINGS,
    SETTINGS,
    st.one_of(st.none(), st.integers(1, 9)),
    st.dictionaries(st.integers(0, 3), st.lists(st.integers(1, 9), unique=True, max_size=4).map(tuple)),
    st.lists(st.integers(1, 9), unique=True).map(tuple),
)
def test_whatever_is_found_can_be_reported(
    role: Role,
    requested: Mapping[str, str],
    config: Mapping[str, str],
    replication_factor: int | None,
    replicas: Mapping[int, tuple[int, ...]],
    brokers: tuple[int, ...],
) -> None:
    """The worst comes first, each setting has one difference at most, and no remedy breaks the topic."""
    wanted = ExpectedTopic("g3.topic", role, requested, replication_factor)
    wrong = differences(wanted, FoundTopic(replicas, brokers, config), SERVERS)
    order = list(Severity)
    assert [order.index(d.severity) for d in wrong] == sorted(order.index(d.severity) for d in wrong)
    assert len({d.setting for d in wrong}) == len(wrong)
    changed = dict(config)
    for difference in wrong:
        setting, _, value = difference.remedy.partition(" --add-config ")[2].partition("=")
        changed[setting] = value.strip("[]")
    after = differences(wanted, FoundTopic(replicas, brokers, changed), SERVERS)
    assert not any(difference.severity is Severity.REFUSE for difference in after)


@given(st.sampled_from(Role), SETTINGS.filter(lambda requested: "x" not in requested.values()))
def test_a_topic_changed_by_the_remedies_is_as_it_should_be(role: Role, config: Mapping[str, str]) -> None:
    wanted = ExpectedTopic("g3.topic", role)
    existing = {**BROKER_DEFAULTS, **config}
    for difference in differences(wanted, FoundTopic({0: (1,)}, (1,), existing), SERVERS):
        setting, _, value = difference.remedy.partition(" --add-config ")[2].partition("=")
        existing[setting] = value
    assert differences(wanted, FoundTopic({0: (1,)}, (1,), existing), SERVERS) == []
