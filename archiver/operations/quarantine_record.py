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

from archiver.console.runner import CommandError, print_out, with_kafka
from archiver.core.formatting import format_time
from archiver.kafka.publication import OutgoingMessage, publish
from archiver.kafka.topic_reader import TopicReader, record_headers
from g3stream.contract.headers import ConsumedHeaders, digest_of, headers_of
from g3stream.contract.topics import QUARANTINE_TOPIC_CONFIG, ContractError, frames_topic, quarantine_topic
from g3stream.host.environment import host_name
from g3stream.kafka.errors import Operation, needs, topic_right
from g3stream.kafka.topic_admin import TopicAdmin

_GROUP = "archiver-quarantine"
"""For a consumer that commits nothing."""
_KAFKA_SECONDS = 10.0
_EPOCH = re.compile(rb"[0-9a-f]{16}")


@with_kafka
def quarantine(config: Mapping[str, Any], options: argparse.Namespace) -> int:
    """Run the command with its options (commands/quarantine.py); return its exit code."""
    reader, stream = TopicReader(config, _GROUP), options.stream
    if stream not in (streams := reader.streams()):
        reader.check_not_hidden([stream])
        raise CommandError(f"there is no stream {stream}; there are: {', '.join(streams) or 'none'}")
    details = {"why": options.why, "host": host_name()}
    if options.partition:
        return _move_partition(config, options, reader, details)
    return _quarantine_record(config, options, reader, details)


def _quarantine_record(
    config: Mapping[str, Any], options: argparse.Namespace, reader: TopicReader, details: Mapping[str, str]
) -> int:
    stream, offset, topic = options.stream, options.offset, quarantine_topic(options.stream)
    message = reader.message(stream, offset)
    if message is None:
        first, end = reader.offset_range(stream)
        raise CommandError(
            f"there is no record at offset {offset} of {frames_topic(stream)}, which has {first} to {end - 1}"
        )
    try:
        record_headers(message)
    except ContractError as error:
        wrong = str(error)
    else:
        raise CommandError(
            f"the record at offset {offset} is one of ours, and is recorded; only an invalid record is quarantined"
        )
    if _may_be_ours(message) and not options.force:
        raise CommandError(
            f"{wrong}; but it has an epoch, so a later version of ingest may have published it: then update the "
            "archiver, and it is recorded. --force quarantines it nevertheless"
        )
    if digest_of(message) in reader.quarantined_digests(stream):
        print_out(f"{stream}: the record at offset {offset} is in quarantine already ({topic})")
        return 0
    _create(TopicAdmin(config), stream)
    _publish(config, stream, [message], {"wrong": wrong, **details})
    at = format_time(message.timestamp()[1])
    print_out(f"{stream}: the record at offset {offset}, of {at} UTC, is in quarantine now ({topic}): {wrong}")
    print_out(
        "The archivers of the stream leave it out and continue within seconds, or as soon as they run; verify, "
        "repair and replay leave it out, too."
    )
    return 0


def _move_partition(
    config: Mapping[str, Any], options: argparse.Namespace, reader: TopicReader, details: Mapping[str, str]
) -> int:
    """Move the records of a partition up to an offset. If it is killed, the next run does the rest."""
    stream, partition, last = options.stream, options.partition, options.offset
    admin, topic = TopicAdmin(config), frames_topic(stream)
    if partition not in admin.client.list_topics(topic, timeout=_KAFKA_SECONDS).topics[topic].partitions:
        raise CommandError(f"{topic} has no partition {partition}")
    first, end = reader.offset_range(stream, partition)
    if not first <= last < end:
        has = f"has offsets {first} to {end - 1}" if first < end else "has no records"
        raise CommandError(f"there is no record at offset {last} of partition {partition} of {topic}, which {has}")
    for batch in () if options.force else reader.batches(stream, first, last + 1, partition):
        for message in filter(_may_be_ours, batch):
            raise CommandError(
                f"the record at offset {message.offset()} of partition {partition} has an epoch, so an ingest or "
                "a mirror may have published it, and it may be in no file; --force moves it nevertheless"
            )
    _create(admin, stream)
    kept, count = set(reader.quarantined_digests(stream)), 0
    details = {"wrong": f"in partition {partition}", "partition": str(partition), **details}
    for batch in reader.batches(stream, first, last + 1, partition):
        new = {digest: message for message in batch if (digest := digest_of(message)) not in kept}
        _publish(config, stream, new.values(), details)
        kept |= new.keys()
        count += len(batch)
    before = TopicPartition(topic, partition, last + 1)
    with needs(topic_right(Operation.DELETE, topic)):
        admin.client.delete_records([before], request_timeout=_KAFKA_SECONDS)[before].result()
    print_out(
        f"{stream}: {count} record{'s'[: count != 1]} of partition {partition}, up to offset {last}, "
        f"{'are' if count != 1 else 'is'} in quarantine now ({quarantine_topic(stream)}), and not in {topic} any more"
    )
    return 0


def _headers(message: Message) -> ConsumedHeaders | None:
    """Return a record's headers; None if they can't be read."""
    try:
        return headers_of(message)
    except ContractError:
        return None


def _may_be_ours(message: Message) -> bool:
    """Whether ingest may have published an invalid record: it has a producer epoch."""
    return any(name == "epoch" and text and _EPOCH.fullmatch(text) for name, text in _headers(message) or ())


def _copy(message: Message, details: Mapping[str, str]) -> OutgoingMessage:
    """Return a record's copy for quarantine. details: additional headers."""
    headers: list[tuple[str, str | bytes | None]] = [("v", "1"), *details.items()]
    headers += [("offset", str(message.offset())), ("time", str(message.timestamp()[1]))]
    value, key, theirs = message.value(), message.key(), _headers(message)
    if value is None:
        headers.append(("no-value", "1"))  # a null value would be a tombstone in a compacted topic
    if key is not None:
        headers.append(("record-key", key))
    if theirs is None:
        headers.append(("unreadable-headers", "1"))
    headers += [(f"record.{name}", text) for name, text in theirs or ()]
    return OutgoingMessage(value or b"", digest_of(message), headers)


def _create(admin: TopicAdmin, stream: str) -> None:
    """Create the stream's quarantine topic, with as many copies as its own. Raises KafkaException."""
    frames = admin.client.list_topics(frames_topic(stream), timeout=_KAFKA_SECONDS).topics[frames_topic(stream)]
    admin.create(quarantine_topic(stream), QUARANTINE_TOPIC_CONFIG, len(frames.partitions[0].replicas))


def _publish(config: Mapping[str, Any], stream: str, messages: Iterable[Message], details: Mapping[str, str]) -> None:
    """Copy records to the quarantine topic. Raises KafkaException."""
    size = {"message.max.bytes": int(QUARANTINE_TOPIC_CONFIG["max.message.bytes"])}
    publish({**config, **size}, quarantine_topic(stream), (_copy(message, details) for message in messages))
