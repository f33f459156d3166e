"""Topic settings: how an existing topic differs from the requested settings, and from those that recording needs.

Pure: the topic's state is an argument (kafka/topic_admin.py reads it). Each difference names its consequence, and the
command of Kafka's own tools that corrects it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from g3stream.contract.headers import CHUNK_BYTES
from g3stream.contract.topics import (
    FILES_TOPIC,
    FILES_TOPIC_CONFIG,
    FRAMES_TOPIC_CONFIG,
    REJECTED_TOPIC_CONFIG,
    stream_of_topic,
)

MIN_MESSAGE_BYTES = CHUNK_BYTES + 4096
"""The max.message.bytes that a topic of records needs: the largest value, its headers, and Kafka's own fields."""

_MIN_EVENT_BYTES = 64 << 10  # an event on g3.files has about 5 kB
_SHORT_RETENTION_MS = 3_600_000
_SHORT_RETENTION_BYTES = 64 << 20
_INFINITE = 2**63 - 1


class Severity(StrEnum):
    """What a difference means for recording."""

    REFUSE = "refuse"
    """Records can't be published to the topic, or not unchanged."""
    AT_RISK = "at_risk"
    """It works now, but a guarantee doesn't hold."""
    REPORT = "report"
    """It works; an operator should know."""


class Role(Enum):
    """What a topic is for."""

    FRAMES = "frames"
    REJECTED = "rejected"
    FILES = "files"


_CONFIG: Mapping[Role, Mapping[str, str]] = {
    Role.FRAMES: FRAMES_TOPIC_CONFIG,
    Role.REJECTED: REJECTED_TOPIC_CONFIG,
    Role.FILES: FILES_TOPIC_CONFIG,
}


@dataclass(frozen=True, slots=True)
class ExpectedTopic:
    """A topic as it should be."""

    name: str
    role: Role
    requested: Mapping[str, str] = field(default_factory=dict)
    """Settings that an operator requested."""
    replication_factor: int | None = None
    """The requested number of copies; None for the broker's default."""

    @property
    def config(self) -> Mapping[str, str]:
        """The settings with which the topic is created."""
        ours = _CONFIG[self.role]
        # A setting that was requested for the frames topic could let rejected frames fill the broker's disk.
        return {**self.requested, **ours} if self.role is Role.REJECTED else {**ours, **self.requested}


EXPECTED_FILES_TOPIC = ExpectedTopic(FILES_TOPIC, Role.FILES)


def timestamps_replaced(topic: str) -> str:
    """Return the error text for a topic whose records bear the broker's timestamps instead of ingest's."""
    return (
        f"the topic {topic} has message.timestamp.type=LogAppendTime, so Kafka replaces the times of receipt: files "
        "are cut and named by its clock, and what waited in a spool seems to arrive all at once; to fix it: "
        f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
        "--add-config message.timestamp.type=CreateTime"
    )


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as it exists."""

    replicas: Mapping[int, tuple[int, ...]]
    """By partition, the brokers that have a copy."""
    brokers: tuple[int, ...] = ()
    """All brokers of the cluster."""
    config: Mapping[str, str] | None = None
    """All settings; None if ACLs forbid reading them."""
    other_partitions: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Partitions other than 0 that have records: the first offset, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a topic is not as it should be."""

    topic: str
    severity: Severity
    setting: str
    """Name of the setting, or of another property, that differs."""
    found: str
    """Its present value."""
    consequence: str
    """What that means, as words that follow the topic's name."""
    remedy: str = ""
    """A command that corrects it; empty if there is none."""

    @property
    def key(self) -> tuple[str, ...]:
        """The identity of a difference: one with a known key is not logged again."""
        return self.topic, self.severity, self.setting, self.found

    def __str__(self) -> str:
        remedy = f"; to fix it: {self.remedy}" if self.remedy else ""
        return f"the topic {self.topic} {self.consequence}{remedy}"


def differences(expected: ExpectedTopic, found: FoundTopic, servers: str) -> list[Difference]:
    """Return how a topic differs from what it should be, the worst first.

    servers: `bootstrap.servers`, for the commands.
    """
    worst_first = list(Severity).index
    return sorted(_differences(expected, found, servers), key=lambda difference: worst_first(difference.severity))


def describe_other_partitions(other_partitions: Mapping[int, tuple[int, int]]) -> str:
    """Return the warning about records outside partition 0, which no archiver records."""
    spans = sorted(other_partitions.items())
    places = ", ".join(f"partition {number} (offsets {first} to {end - 1})" for number, (first, end) in spans)
    return f"records in {places}: these aren't recorded, as only partition 0 keeps a stream's order"


def _differences(expected: ExpectedTopic, found: FoundTopic, servers: str) -> Iterator[Difference]:
    yield from _partition_differences(expected, found, servers)
    yield from _replica_differences(expected, found, servers)
    if found.config is None:
        consequence = "can't be checked: this user may not read its settings (it lacks DescribeConfigs)"
        yield Difference(expected.name, Severity.REPORT, "DescribeConfigs", "forbidden", consequence)
        return
    for setting, severity, consequence, value in _violations(expected, found.config, len(found.replicas.get(0, ()))):
        remedy = (
            f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics "
            f"--entity-name {expected.name} --add-config {setting}={f'[{value}]' if ',' in value else value}"
        )
        now = found.config[setting]
        yield Difference(expected.name, severity, setting, now, f"has {setting}={now}, {consequence}", remedy)


def _partition_differences(expected: ExpectedTopic, found: FoundTopic, servers: str) -> Iterator[Difference]:
    if len(found.replicas) <= 1:
        return
    count = f"has {len(found.replicas)} partitions"
    if not found.other_partitions or expected.role is not Role.FRAMES:
        consequence = f"{count}; only partition 0 is used, and Kafka can't remove the others"
        yield Difference(expected.name, Severity.REPORT, "partitions", str(len(found.replicas)), consequence)
        return
    where = min(found.other_partitions)
    yield Difference(
        expected.name,
        Severity.AT_RISK,
        "partitions",
        f"records in {sorted(found.other_partitions)}",
        f"{count}, and {describe_other_partitions(found.other_partitions)}. Find out who writes there; to see them: "
        f"kafka-console-consumer.sh --bootstrap-server {servers} --topic {expected.name} --partition {where} "
        "--from-beginning --property print.headers=true",
        " && ".join(
            f"archiver quarantine --stream {stream_of_topic(expected.name)} --partition {number} --offset {end - 1}"
            for number, (_, end) in sorted(found.other_partitions.items())
        ),
    )


def _replica_differences(expected: ExpectedTopic, found: FoundTopic, servers: str) -> Iterator[Difference]:
    copies, requested = found.replicas.get(0, ()), expected.replication_factor
    if requested is None or not copies or len(copies) >= requested:
        return
    consequence = f"has {_copies(len(copies))}, where {requested} were requested"
    if len(found.brokers) < requested:
        consequence += f", and the cluster has {len(found.brokers)} brokers"
        remedy = ""
    else:
        more = [broker for broker in sorted(found.brokers) if broker not in copies]
        plan = [
            {"topic": expected.name, "partition": number, "replicas": [*dict.fromkeys([*old, *more])][:requested]}
            for number, old in sorted(found.replicas.items())
        ]
        text = json.dumps({"version": 1, "partitions": plan}, separators=(",", ":"))
        remedy = (
            f"echo '{text}' > plan.json && kafka-reassign-partitions.sh --bootstrap-server {servers} "
            "--reassignment-json-file plan.json --execute"
        )
    yield Difference(expected.name, _risk(expected), "replication factor", str(len(copies)), consequence, remedy)


def _copies(count: int) -> str:
    return f"{count} {'copy' if count == 1 else 'copies'}"


def _risk(expected: ExpectedTopic) -> Severity:
    """Return the severity of a lower durability: rejected frames are kept without a guarantee."""
    return Severity.REPORT if expected.role is Role.REJECTED else Severity.AT_RISK


_Violation = tuple[str, Severity, str, str]
"""A setting, the severity, the consequence of its value, and the value that corrects it."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """A topic's settings, beside the requested ones."""

    found: Mapping[str, str]
    requested: Mapping[str, str]

    def numbers(self, setting: str) -> tuple[int | None, int | None]:
        """Return the number of a setting, and the requested one; None for one that isn't set, or is no number."""
        return _number(self.found.get(setting)), _number(self.requested.get(setting))

    def is_as_requested(self, setting: str) -> bool:
        """Whether a setting was requested, and is so."""
        requested = self.requested.get(setting)
        return requested is not None and _normalized(requested) == _normalized(self.found[setting])


def _violations(expected: ExpectedTopic, config: Mapping[str, str], replicas: int) -> Iterator[_Violation]:
    settings = _Settings(config, expected.config)
    found = [
        *_acceptance_violations(expected.role, settings),
        *_retention_violations(expected, settings),
        *_copies_violations(expected, settings, replicas),
    ]
    yield from found
    reported = {setting for setting, *_ in found}
    for setting in expected.requested:
        if setting in config and setting not in reported and not settings.is_as_requested(setting):
            requested = expected.config[setting]
            if _takes_records(expected.role, {setting: requested}):
                yield setting, Severity.REPORT, f"and {requested} was requested", requested


def _takes_records(role: Role, config: Mapping[str, str]) -> bool:
    """Whether a topic with these settings accepts records; no remedy may break a topic that works."""
    settings = _Settings(config, ExpectedTopic("", role).config)
    return all(severity is not Severity.REFUSE for _, severity, _, _ in _acceptance_violations(role, settings))


def _acceptance_violations(role: Role, settings: _Settings) -> Iterator[_Violation]:
    """Check the settings by which a topic takes records or refuses them, and keeps their times."""
    is_files, is_frames = role is Role.FILES, role is Role.FRAMES
    refused = Severity.AT_RISK if is_files else Severity.REFUSE
    setting, policy = "cleanup.policy", settings.found.get("cleanup.policy")
    if policy is not None and "compact" in _normalized(policy):
        consequence = "so Kafka refuses records without a key, as ours are"
        if is_files:
            consequence = "so a newer event of a stream deletes the older ones"
        yield setting, refused, consequence, "delete"
    elif role is Role.REJECTED and policy is not None and not policy.strip(" ,"):
        yield setting, Severity.REPORT, "so it grows without bound", "delete"

    setting, min_bytes = "max.message.bytes", _MIN_EVENT_BYTES if is_files else MIN_MESSAGE_BYTES
    max_bytes, _ = settings.numbers(setting)
    if max_bytes is not None and max_bytes < min_bytes:
        consequence = f"so it accepts messages of up to {max_bytes} bytes, and ours may have {min_bytes}"
        yield setting, refused, consequence, "1048588"

    setting = "message.timestamp.type"
    if settings.found.get(setting) == "LogAppendTime":
        consequence = "so Kafka replaces the times of receipt, by which files are cut and named"
        yield setting, Severity.REFUSE if is_frames else Severity.REPORT, consequence, "CreateTime"
    for setting, severity, which in (
        ("message.timestamp.before.max.ms", Severity.AT_RISK if is_frames else Severity.REPORT, "older"),
        ("message.timestamp.after.max.ms", Severity.REPORT, "newer"),
    ):
        bound, _ = settings.numbers(setting)
        if bound is not None and bound < _INFINITE and not settings.is_as_requested(setting):
            consequence = f"so Kafka refuses records that are more than {bound / 1000:g} s {which} than its clock"
            yield setting, severity, consequence, str(_INFINITE)


def _retention_violations(expected: ExpectedTopic, settings: _Settings) -> Iterator[_Violation]:
    """Check retention.ms and retention.bytes."""
    for setting, short in (("retention.ms", _SHORT_RETENTION_MS), ("retention.bytes", _SHORT_RETENTION_BYTES)):
        found, requested = settings.numbers(setting)
        if found is None:
            continue
        if requested is None:
            if expected.role is Role.FRAMES and 0 <= found < short:
                yield setting, Severity.REPORT, "so records are deleted if no archiver records them soon", "-1"
        elif _comparable_retention(found) < _comparable_retention(requested):
            consequence = "so records are deleted sooner than requested"
            if expected.role is Role.FILES:
                consequence = "so events on files and losses are deleted, which verify and repair need"
            yield setting, _risk(expected), consequence, str(requested)
        elif _comparable_retention(found) > _comparable_retention(requested):
            yield setting, Severity.REPORT, f"and {requested} was requested", str(requested)


def _copies_violations(expected: ExpectedTopic, settings: _Settings, replicas: int) -> Iterator[_Violation]:
    """Check min.insync.replicas and unclean.leader.election.enable."""
    setting = "min.insync.replicas"
    found, requested = settings.numbers(setting)
    if found is not None and requested is not None and found < requested:
        consequence = f"where {requested} were requested: acknowledged records may be lost when fewer brokers die"
        yield setting, _risk(expected), consequence, str(requested)
    elif found is not None and requested is not None and found > requested:
        yield setting, Severity.REPORT, f"where {requested} were requested", str(requested)
    elif found is not None and found > replicas > 0:
        consequence = f"but only {_copies(replicas)}: an acknowledged record has no more copies than that"
        yield setting, Severity.REPORT, consequence, str(replicas)
    setting = "unclean.leader.election.enable"
    if settings.found.get(setting) == "true" and not settings.is_as_requested(setting):
        yield setting, Severity.REPORT, "so acknowledged records may be lost when brokers die", "false"


def _number(text: str | None) -> int | None:
    """Return the integer, or None if it is none: an operator may request any text, and Kafka validates it."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _comparable_retention(retention: int) -> int:
    """Return a retention that can be compared: -1, unlimited, as the largest number."""
    return _INFINITE if retention < 0 else retention


def _normalized(value: str) -> tuple[str, ...]:
    return tuple(sorted(item.strip().lower() for item in value.split(",")))
