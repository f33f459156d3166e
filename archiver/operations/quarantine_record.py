"""The command `archiver quarantine`: quarantines a record that breaks the contract, so that its stream continues.

The record is copied to the stream's quarantine topic: its bytes as the value (empty, with the header `no-value`, if
it had none), its key and headers as headers; and where it was, what is wrong, and who quarantined it and why. From
then on every reader of the stream leaves it out (kafka/invalid_records.py), here and where the topics are mirrored.

Records in another partition than 0, which nobody records, are moved: copied to that topic, then deleted.
"""

import argparse
import re
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Message, TopicPartition

from archiver.console.runner import print_err, print_out, run_client
from archiver.core.formatting import format_time
from archiver.kafka.invalid_records import digest_of
from archiver.kafka.publication import OutgoingMessage, publish
from archiver.kafka.topic_reader import TopicReader, record_headers
from g3stream.contract.errors import ContractError
from g3stream.contract.message_headers import ConsumedHeaders, headers_of
from g3stream.contract.topic_settings import expected_quarantine_topic
from g3stream.contract.topics import QUARANTINE_TOPIC_CONFIG, frames_topic, quarantine_topic
from g3stream.host.environment import host_name
from g3stream.kafka.authorization import Operation, needs, topic_right
from g3stream.kafka.topic_admin import TopicAdmin

_PROG = "archiver quarantine"
_GROUP = "archiver-quarantine"
"""For a consumer that commits nothing."""
_KAFKA_SECONDS = 10.0
_EPOCH = re.compile(rb"[0-9a-f]{16}")


def quarantine(options: argparse.Namespace) -> int:
    """Run the command with its options (commands/quarantine.py); return its exit code."""
    why = " ".join(options.why.split())
    return run_client(
        options,
        _PROG,
        lambda config: _quarantine(
            config, options.stream, options.partition, options.offset, why, force=options.force
        ),
    )


def _quarantine(config: Mapping[str, Any], stream: str, partition: int, offset: int, why: str, *, force: bool) -> int:
    reader = TopicReader(config, _GROUP)
    if stream not in (streams := reader.streams()):
        reader.check_not_hidden([stream])
        return _fail(f"there is no stream {stream}; there are: {', '.join(streams) or 'none'}")
    if partition:
        return _move(
            config, reader, stream, TopicPartition(frames_topic(stream), partition, offset), why, force=force
        )
    message = reader.message(stream, offset)
    if message is None:
        first, end = reader.offset_range(stream)
        return _fail(
            f"there is no record at offset {offset} of {frames_topic(stream)}, which has {first} to {end - 1}"
        )
    wrong = contract_violation(message)
    if wrong is None:
        return _fail(
            f"the record at offset {offset} is one of ours, and is recorded; only an invalid record is quarantined"
        )
    if may_be_ours(message) and not force:
        return _fail(
            f"{wrong}; but it has an epoch, so a later version of ingest may have published it: then update the "
            "archiver, and it is recorded. --force quarantines it nevertheless"
        )
    topic, digest = quarantine_topic(stream), digest_of(message)
    if digest in reader.quarantined_digests(stream):
        print_out(f"{stream}: the record at offset {offset} is in quarantine already ({topic})")
        return 0
    _create(TopicAdmin(config), stream)
    _publish(config, stream, [message], {"wrong": wrong, "why": why, "host": host_name()})
    at = format_time(message.timestamp()[1])
    print_out(f"{stream}: the record at offset {offset}, of {at} UTC, is in quarantine now ({topic}): {wrong}")
    print_out(
        "The archivers of the stream leave it out and continue within seconds, or as soon as they run; verify, "
        "repair and replay leave it out, too."
    )
    return 0


def _move(
    config: Mapping[str, Any], reader: TopicReader, stream: str, last: TopicPartition, why: str, *, force: bool
) -> int:
    """Move the records of a partition up to the offset of `last`; return the exit code.

    If it is killed, the next run does the rest.
    """
    admin = TopicAdmin(config)
    topic, partition = last.topic, last.partition
    if partition not in admin.client.list_topics(topic, timeout=_KAFKA_SECONDS).topics[topic].partitions:
        return _fail(f"{topic} has no partition {partition}")
    first, end = reader.offset_range(stream, partition)
    if not first <= last.offset < end:
        has = f"has offsets {first} to {end - 1}" if first < end else "has no records"
        return _fail(f"there is no record at offset {last.offset} of partition {partition} of {topic}, which {has}")
    after = last.offset + 1
    for batch in () if force else reader.batches(stream, first, after, partition):
        for message in batch:
            if may_be_ours(message):
                return _fail(
                    f"the record at offset {message.offset()} of partition {partition} has an epoch, so an ingest or "
                    "a mirror may have published it, and it may be in no file; --force moves it nevertheless"
                )
    _create(admin, stream)
    kept, count = set(reader.quarantined_digests(stream)), 0
    details = {"wrong": f"in partition {partition}", "partition": str(partition), "why": why, "host": host_name()}
    for batch in reader.batches(stream, first, after, partition):
        new = {digest: message for message in batch if (digest := digest_of(message)) not in kept}
        _publish(config, stream, new.values(), details)
        kept |= new.keys()
        count += len(batch)
    before = TopicPartition(topic, partition, after)
    with needs(topic_right(Operation.DELETE, topic)):
        admin.client.delete_records([before], request_timeout=_KAFKA_SECONDS)[before].result()
    print_out(
        f"{stream}: {count} record{'s'[: count != 1]} of partition {partition}, up to offset {last.offset}, "
        f"{'are' if count != 1 else 'is'} in quarantine now ({quarantine_topic(stream)}), and not in {topic} any more"
    )
    return 0


def contract_violation(message: Message) -> str | None:
    """Return why a record can't be recorded; None if it can."""
    try:
        record_headers(message)
    except ContractError as error:
        return str(error)
    return None


def may_be_ours(message: Message) -> bool:
    """Whether ingest may have published an invalid record: it has a producer epoch."""
    try:
        headers = headers_of(message)
    except ContractError:
        return False
    return any(name == "epoch" and text and _EPOCH.fullmatch(text) for name, text in headers)


def quarantine_copy(message: Message, details: Mapping[str, str]) -> OutgoingMessage:
    """Return a record's copy for quarantine. details: additional headers."""
    headers: list[tuple[str, str | bytes | None]] = [("v", "1"), *details.items()]
    headers += [("offset", str(message.offset())), ("time", str(message.timestamp()[1]))]
    value = message.value()
    if value is None:
        headers.append(("no-value", "1"))  # a null value would be a tombstone in a compacted topic
    if (key := message.key()) is not None:
        headers.append(("record-key", key))
    try:
        theirs: ConsumedHeaders = headers_of(message)
    except ContractError:
        headers.append(("unreadable-headers", "1"))
        theirs = []
    headers += [(f"record.{name}", text) for name, text in theirs]
    return OutgoingMessage(value or b"", digest_of(message), headers)


def _create(admin: TopicAdmin, stream: str) -> None:
    """Create the stream's quarantine topic, with as many copies as its own. Raises KafkaException."""
    frames = admin.client.list_topics(frames_topic(stream), timeout=_KAFKA_SECONDS).topics[frames_topic(stream)]
    admin.create(expected_quarantine_topic(stream, len(frames.partitions[0].replicas)))


def _publish(config: Mapping[str, Any], stream: str, messages: Iterable[Message], details: Mapping[str, str]) -> None:
    """Copy records to the quarantine topic. Raises KafkaException."""
    size = {"message.max.bytes": int(QUARANTINE_TOPIC_CONFIG["max.message.bytes"])}
    copies = (quarantine_copy(message, details) for message in messages)
    publish({**config, **size}, quarantine_topic(stream), copies)


def _fail(why: str) -> int:
    print_err(f"{_PROG}: error: {why}")
    return 1
