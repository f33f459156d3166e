"""What a topic must be: how one that exists differs from what was asked for, and from what our promises need.

Pure: what was found comes from kafka/topic_admin.py. Each difference says what it means, and the command of Kafka's
own tools that mends it.
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
    frames_topic,
    rejected_topic,
    stream_of,
)

LEAST_MESSAGE_BYTES = CHUNK_BYTES + 4096
"""A record's value, and its headers and Kafka's own fields, at most."""

_LEAST_EVENT_BYTES = 64 << 10  # an event on g3.files has some 5 kB
_SHORT_RETENTION_MS = 3_600_000
_SHORT_RETENTION_BYTES = 64 << 20
_INFINITE = 2**63 - 1


class Severity(StrEnum):
    """What a difference means for recording."""

    REFUSE = "refuse"
    """Records can't be published to it, or not as they are."""
    AT_RISK = "at_risk"
    """It works now, and a promise doesn't hold."""
    REPORT = "report"
    """It works; somebody should know."""


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
class WantedTopic:
    """A topic as it is to be. asked: settings that an operator asked for. replication_factor: None: the broker's
    default, whatever that is."""

    name: str
    role: Role
    asked: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int | None = None

    @property
    def config(self) -> Mapping[str, str]:
        """The settings that it is created with."""
        ours = _CONFIG[self.role]
        # Asked for the frames, a setting may make bad ones fill the broker: theirs stay bounded.
        return {**self.asked, **ours} if self.role is Role.REJECTED else {**ours, **self.asked}


def frames_wanted(
    stream: str, asked: Mapping[str, str] | None = None, replication_factor: int | None = None
) -> WantedTopic:
    """The topic of a stream's records."""
    return WantedTopic(frames_topic(stream), Role.FRAMES, asked or {}, replication_factor)


def rejected_wanted(
    stream: str, asked: Mapping[str, str] | None = None, replication_factor: int | None = None
) -> WantedTopic:
    """The topic of a stream's frames that can't be trusted."""
    return WantedTopic(rejected_topic(stream), Role.REJECTED, asked or {}, replication_factor)


FILES_WANTED = WantedTopic(FILES_TOPIC, Role.FILES)


def times_replaced(topic: str) -> str:
    """What is said where a record of that topic bears Kafka's time, not the one that it was published with."""
    return (
        f"the topic {topic} has message.timestamp.type=LogAppendTime, so Kafka replaces the times of receipt: files "
        "are cut and named by its clock, and what waited in a spool seems to come at once; to mend it: "
        f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} "
        "--add-config message.timestamp.type=CreateTime"
    )


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as it is. replicas: by partition, the brokers that have a copy. brokers: of the cluster. config: all
    its settings; None: we aren't allowed to see them. elsewhere: of each partition but 0 that has records: the first
    offset, and the one after the last."""

    replicas: Mapping[int, tuple[int, ...]]
    brokers: tuple[int, ...] = ()
    config: Mapping[str, str] | None = None
    elsewhere: Mapping[int, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that isn't as it is to be. setting, found: what it is about, and how that is. what: what that means.
    remedy: a command; empty if there is none."""

    topic: str
    severity: Severity
    setting: str
    found: str
    what: str
    remedy: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """Equal if there is nothing new to log."""
        return self.topic, self.severity, self.setting, self.found

    def __str__(self) -> str:
        return f"the topic {self.topic} {self.what}" + (f"; to mend it: {self.remedy}" if self.remedy else "")


def differences(wanted: WantedTopic, found: FoundTopic, servers: str) -> list[Difference]:
    """How a topic differs from what it is to be, the worst first. servers: `bootstrap.servers`, for the commands."""
    order = list(Severity)
    return sorted(_differences(wanted, found, servers), key=lambda difference: order.index(difference.severity))


def records_elsewhere(elsewhere: Mapping[int, tuple[int, int]]) -> str:
    """In words, where there are records that nobody records."""
    spans = sorted(elsewhere.items())
    places = ", ".join(f"partition {number} (offsets {first} to {end - 1})" for number, (first, end) in spans)
    return f"records in {places}: these aren't recorded, as only partition 0 keeps a stream's order"


def _differences(wanted: WantedTopic, found: FoundTopic, servers: str) -> Iterator[Difference]:
    yield from _partitions(wanted, found, servers)
    yield from _replicas(wanted, found, servers)
    if found.config is None:
        what = "can't be checked, as Kafka doesn't let us see its settings (DescribeConfigs)"
        yield Difference(wanted.name, Severity.REPORT, "DescribeConfigs", "forbidden", what)
        return
    rules = _Rules(wanted, found.config, servers)
    yield from rules.cleanup()
    yield from rules.size()
    yield from rules.timestamps()
    yield from rules.retention()
    yield from rules.copies(len(found.replicas.get(0, ())))
    yield from rules.others_asked()


def _partitions(wanted: WantedTopic, found: FoundTopic, servers: str) -> Iterator[Difference]:
    if len(found.replicas) <= 1:
        return
    count = f"has {len(found.replicas)} partitions"
    if not found.elsewhere or wanted.role is not Role.FRAMES:
        what = f"{count}; only partition 0 is used, and Kafka can't take any away"
        yield Difference(wanted.name, Severity.REPORT, "partitions", str(len(found.replicas)), what)
        return
    where = min(found.elsewhere)
    yield Difference(
        wanted.name,
        Severity.AT_RISK,
        "partitions",
        f"records in {sorted(found.elsewhere)}",
        f"{count}, and {records_elsewhere(found.elsewhere)}. Find out who writes there; to see them: "
        f"kafka-console-consumer.sh --bootstrap-server {servers} --topic {wanted.name} --partition {where} "
        "--from-beginning --property print.headers=true",
        " && ".join(
            f"archiver quarantine --stream {stream_of(wanted.name)} --partition {number} --offset {end - 1}"
            for number, (_, end) in sorted(found.elsewhere.items())
        ),
    )


def _replicas(wanted: WantedTopic, found: FoundTopic, servers: str) -> Iterator[Difference]:
    have, asked = found.replicas.get(0, ()), wanted.replication_factor
    if asked is None or not have or len(have) >= asked:
        return
    what = f"has {_copies(len(have))}, where {asked} were asked for"
    if len(found.brokers) < asked:
        what += f", and the cluster has {len(found.brokers)} brokers"
        remedy = ""
    else:
        more = [broker for broker in sorted(found.brokers) if broker not in have]
        plan = [
            {"topic": wanted.name, "partition": number, "replicas": [*old, *_others(old, more)][:asked]}
            for number, old in sorted(found.replicas.items())
        ]
        text = json.dumps({"version": 1, "partitions": plan}, separators=(",", ":"))
        remedy = (
            f"echo '{text}' > plan.json && kafka-reassign-partitions.sh --bootstrap-server {servers} "
            "--reassignment-json-file plan.json --execute"
        )
    yield Difference(wanted.name, _risk(wanted), "replication factor", str(len(have)), what, remedy)


def _others(old: tuple[int, ...], brokers: list[int]) -> list[int]:
    return [broker for broker in brokers if broker not in old]


def _copies(count: int) -> str:
    return f"{count} {'copy' if count == 1 else 'copies'}"


def _risk(wanted: WantedTopic) -> Severity:
    """Rejected frames are kept as well as may be; nothing is promised of them."""
    return Severity.REPORT if wanted.role is Role.REJECTED else Severity.AT_RISK


class _Rules:
    """What is said of the settings of one topic."""

    def __init__(self, wanted: WantedTopic, config: Mapping[str, str], servers: str) -> None:
        self._wanted = wanted
        self._config = config
        self._servers = servers
        self._told: set[str] = set()

    def cleanup(self) -> Iterator[Difference]:
        """cleanup.policy."""
        policies = self._list("cleanup.policy")
        if "compact" in policies:
            refused = self._wanted.role is not Role.FILES
            yield self._differs(
                "cleanup.policy",
                Severity.REFUSE if refused else Severity.AT_RISK,
                "so Kafka takes no records without a key, which ours are"
                if refused
                else "so older events on a stream are deleted by newer ones",
                "delete",
            )
        elif self._wanted.role is Role.REJECTED and not policies and "cleanup.policy" in self._config:
            yield self._differs("cleanup.policy", Severity.REPORT, "so it grows without bound", "delete")

    def size(self) -> Iterator[Difference]:
        """max.message.bytes."""
        files = self._wanted.role is Role.FILES
        least = _LEAST_EVENT_BYTES if files else LEAST_MESSAGE_BYTES
        if (most := self._int("max.message.bytes")) is not None and most < least:
            what = f"so it takes messages of {most} bytes at most, and ours may have {least}"
            yield self._differs("max.message.bytes", Severity.AT_RISK if files else Severity.REFUSE, what, "1048588")

    def timestamps(self) -> Iterator[Difference]:
        """message.timestamp.*."""
        frames = self._wanted.role is Role.FRAMES
        if self._config.get("message.timestamp.type") == "LogAppendTime":
            what = "so Kafka replaces the times of receipt, by which files are cut and named"
            yield self._differs(
                "message.timestamp.type", Severity.REFUSE if frames else Severity.REPORT, what, "CreateTime"
            )
        for setting, severity, which in (
            ("message.timestamp.before.max.ms", Severity.AT_RISK if frames else Severity.REPORT, "older"),
            ("message.timestamp.after.max.ms", Severity.REPORT, "newer"),
        ):
            bound = self._int(setting)
            if bound is not None and bound < _INFINITE and not self._as_asked(setting):
                what = f"so Kafka refuses records that are more than {bound / 1000:g} s {which} than its clock"
                yield self._differs(setting, severity, what, str(_INFINITE))

    def retention(self) -> Iterator[Difference]:
        """retention.ms and retention.bytes."""
        for setting, short in (("retention.ms", _SHORT_RETENTION_MS), ("retention.bytes", _SHORT_RETENTION_BYTES)):
            found = self._int(setting)
            if found is None:
                continue
            wanted = _number(self._wanted.config.get(setting))
            if wanted is None:
                if self._wanted.role is Role.FRAMES and 0 <= found < short:
                    what = "so what an archiver that is away doesn't record soon is deleted"
                    yield self._differs(setting, Severity.REPORT, what, "-1")
            elif _kept(found) < _kept(wanted):
                what = "so what is to be kept is deleted sooner"
                if self._wanted.role is Role.FILES:
                    what = "so what is known of files and losses is deleted, which verify and repair need"
                yield self._differs(setting, _risk(self._wanted), what, str(wanted))
            elif _kept(found) > _kept(wanted):
                yield self._differs(setting, Severity.REPORT, f"and {wanted} was asked for", str(wanted))

    def copies(self, replicas: int) -> Iterator[Difference]:
        """What of copies is a setting."""
        setting = "min.insync.replicas"
        found, wanted = self._int(setting), _number(self._wanted.config.get(setting))
        if found is not None and wanted is not None and found != wanted:
            less = found < wanted
            what = f"where {wanted} were asked for"
            if less:
                what += ": what is acknowledged may be lost with fewer brokers"
            yield self._differs(setting, _risk(self._wanted) if less else Severity.REPORT, what, str(wanted))
        elif found is not None and found > replicas > 0:
            what = f"of a topic with {_copies(replicas)}: an acknowledged record has no more than those"
            yield self._differs(setting, Severity.REPORT, what, str(replicas))
        setting = "unclean.leader.election.enable"
        if self._config.get(setting) == "true" and not self._as_asked(setting):
            what = "so what Kafka has acknowledged may be lost when brokers die"
            yield self._differs(setting, Severity.REPORT, what, "false")

    def others_asked(self) -> Iterator[Difference]:
        """Whatever else an operator asked for; after the others."""
        for setting in self._wanted.asked:
            if setting in self._config and setting not in self._told and not self._as_asked(setting):
                wanted = self._wanted.config[setting]
                if self._takes_records_with(setting, wanted):
                    yield self._differs(setting, Severity.REPORT, f"and {wanted} was asked for", wanted)

    def _takes_records_with(self, setting: str, value: str) -> bool:
        """Whether the topic would, if that were so; nobody is told to break one that does."""
        asked = _Rules(WantedTopic(self._wanted.name, self._wanted.role), {setting: value}, self._servers)
        found = [*asked.cleanup(), *asked.size(), *asked.timestamps()]
        return not any(difference.severity is Severity.REFUSE for difference in found)

    def _differs(self, setting: str, severity: Severity, what: str, mended: str) -> Difference:
        self._told.add(setting)
        name, found = self._wanted.name, self._config[setting]
        value = f"[{mended}]" if "," in mended else mended
        remedy = (
            f"kafka-configs.sh --bootstrap-server {self._servers} --alter --entity-type topics --entity-name {name} "
            f"--add-config {setting}={value}"
        )
        return Difference(name, severity, setting, found, f"has {setting}={found}, {what}", remedy)

    def _as_asked(self, setting: str) -> bool:
        wanted = self._wanted.config.get(setting)
        return wanted is not None and _normal(wanted) == _normal(self._config[setting])

    def _list(self, setting: str) -> list[str]:
        return [item.strip() for item in self._config.get(setting, "").split(",") if item.strip()]

    def _int(self, setting: str) -> int | None:
        return _number(self._config.get(setting))


def _number(text: str | None) -> int | None:
    """None if it is none: an operator may ask for anything, and Kafka says what of it it takes."""
    try:
        return None if text is None else int(text)
    except ValueError:
        return None


def _kept(retention: int) -> int:
    """So that it can be compared: -1 is for ever."""
    return _INFINITE if retention < 0 else retention


def _normal(value: str) -> tuple[str, ...]:
    return tuple(sorted(item.strip().lower() for item in value.split(",")))
