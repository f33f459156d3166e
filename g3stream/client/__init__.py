"""The client library: live frames, and the files that were recorded, for any program; docs/analyse/client.md.

`g3stream` has these names too: `g3stream.frames(…)`.
"""

from datetime import datetime

from g3stream.client.assembler import Item, Record
from g3stream.client.connection import KafkaConfig
from g3stream.client.errors import (
    ForeignRecordError,
    FrameError,
    G3StreamError,
    KafkaSettingsError,
    KafkaUnavailableError,
    NoSuchStreamError,
    PositionError,
)
from g3stream.client.position import Position
from g3stream.client.reader import FrameReader, RecordReader
from g3stream.client.recorded_files import File, read_files
from g3stream.client.start import Since
from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.sequence import Loss, LossCause

__all__ = [
    "File",
    "ForeignRecordError",
    "FrameError",
    "FrameReader",
    "G3StreamError",
    "Item",
    "KafkaConfig",
    "KafkaSettingsError",
    "KafkaUnavailableError",
    "Kind",
    "Loss",
    "LossCause",
    "NoSuchStreamError",
    "Position",
    "PositionError",
    "Record",
    "RecordHeaders",
    "RecordReader",
    "Since",
    "files",
    "frames",
    "records",
]


def frames(
    stream: str,
    *,
    since: Since = None,
    last: int | None = None,
    follow: bool = False,
    group: str | None = None,
    bootstrap_servers: str | None = None,
    kafka_config: KafkaConfig = None,
    timeout_s: float = 10.0,
) -> FrameReader:
    """Return an iterator over a stream's frames, as spt3g's G3Frame: whole, in order, each once.

    The arguments are those of `records`. START and END of an acquisition aren't among the frames.
    Raises what `records` raises, and ImportError without spt3g.
    """
    # Imported only here, as nothing else needs spt3g; and before Kafka is asked, which may take its time.
    from g3stream.client.spt3g_frames import decode_frame

    return FrameReader(
        records(
            stream,
            since=since,
            last=last,
            follow=follow,
            group=group,
            bootstrap_servers=bootstrap_servers,
            kafka_config=kafka_config,
            timeout_s=timeout_s,
        ),
        decode_frame,
    )


def records(
    stream: str,
    *,
    since: Since = None,
    last: int | None = None,
    follow: bool = False,
    facts: bool = False,
    losses: bool = False,
    group: str | None = None,
    bootstrap_servers: str | None = None,
    kafka_config: KafkaConfig = None,
    timeout_s: float = 10.0,
) -> RecordReader:
    """Return an iterator over a stream's records: each frame's bytes, with its headers, in order, each once.

    since: where to begin: None for the first record that the topic has, "now", a time such as "-10m" or
    "2026-11-22T21:30:00", a datetime (UTC if it has no zone), or a stored Position. last: begin with the last so many
    frames instead. follow: wait for more, for ever; else it ends at what is the topic's end now.
    facts: also START and END, connections made and lost, and silence (Kind). losses: also Loss, before the record
    that has revealed it.
    group: a consumer group: begins where it has got to, else at `since`, and commits once a second, and at the end,
    what was iterated over. Of several readers of a group one reads, and another takes over when it ends.
    bootstrap_servers: brokers; None for those of the environment's KAFKA_BOOTSTRAP_SERVERS, else of `kafka_config`,
    else localhost:9092. kafka_config: a file of Kafka client properties (TLS, SASL), or a mapping of them.
    timeout_s: how long to wait for Kafka's answers. While following, an outage is waited for, and logged.

    Raises ValueError for a time that is none, or a `stream` that can't be a stream's name; and G3StreamError, also
    while it is iterated over.
    """
    return RecordReader(
        stream,
        since=since,
        last=last,
        follow=follow,
        facts=facts,
        losses=losses,
        group=group,
        bootstrap_servers=bootstrap_servers,
        kafka_config=kafka_config,
        timeout_s=timeout_s,
    )


def files(
    *,
    stream: str | None = None,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    session: int | None = None,
    group: str = "archiver",
    bootstrap_servers: str | None = None,
    kafka_config: KafkaConfig = None,
    timeout_s: float = 10.0,
) -> list[File]:
    """Return the files of an archive, in the order in which they were finished, without those retired.

    stream, session: only those of it. since, until: only those with frames received then: times as `records` takes
    them. group: the archive's consumer group, the archiver's `--group`. The others are as for `records`.
    Raises G3StreamError, ValueError.
    """
    return read_files(stream, since, until, session, group, bootstrap_servers, kafka_config, timeout_s)
