"""What happens on the streams, as anyone may see it: from their topics, g3.files and the data directory.

An example of "other consumers": it commits nothing, and neither ingest nor archiver knows of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from rich.table import Table

from g3stream.contract.headers import Kind, RecordHeaders
from g3stream.contract.message_headers import headers_of
from g3stream.contract.topics import FILES_TOPIC, frames_topic, stream_of_topic

_STATE: Mapping[Kind, str] = {
    Kind.FRAME: "frames come",
    Kind.START: "START",
    Kind.END: "END",
    Kind.CONNECTED: "connected",
    Kind.LOST: "no connection",
    Kind.QUIET: "quiet",
}


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A file that the archiver has finished. path: below the data directory. frames: without the repeated ones."""

    path: str
    frames: int
    bytes: int
    why: str


@dataclass(slots=True)
class _StreamView:
    state: str = "not connected"
    frames: int = 0
    bytes: int = 0
    files: list[FinishedFile] = field(default_factory=list)


class LiveView:
    """Watches streams from their first record on. servers: of Kafka. data_dir: the archiver's."""

    def __init__(self, servers: str, streams: Sequence[str], data_dir: Path) -> None:
        self._data_dir = data_dir
        self._streams = {stream: _StreamView() for stream in streams}
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "unused",  # it must have a name, but is never joined
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                "log_level": 0,  # that the broker goes away at the end is expected
            }
        )
        self._topics = [*map(frames_topic, streams), FILES_TOPIC]
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in self._topics])

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()

    def poll(self, timeout_s: float) -> Iterator[str]:
        """What has happened, a line each; waits so long for the first thing. Raises KafkaException."""
        for message in self._consumer.consume(500, timeout_s):
            if (error := message.error()) is not None:
                # The others librdkafka gets over by itself: before its first record a stream has no topic.
                if error.fatal():
                    raise KafkaException(error)
            elif message.topic() == FILES_TOPIC:
                yield self._event(json.loads(message.value() or b""))
            else:
                yield from self._record(message)

    def is_at_end(self) -> bool:
        """Whether it has seen all that is in the topics now, and every frame of it is in a finished file."""
        for position in self._consumer.position([TopicPartition(topic, 0) for topic in self._topics]):
            _, end = self._consumer.get_watermark_offsets(TopicPartition(position.topic, 0), 5.0)
            if position.offset < end:
                return False
        return all(it.frames == sum(file.frames for file in it.files) for it in self._streams.values())

    def files(self, stream: str) -> Sequence[FinishedFile]:
        """The finished files of a stream, in order."""
        return self._streams[stream].files

    def table(self) -> Table:
        """How the streams are now."""
        table = Table("stream", "state", "frames", "MB", "files", "current file", expand=True)
        for column in table.columns[2:5]:
            column.justify = "right"
        for stream, it in self._streams.items():
            partials = sorted(path.name for path in (self._data_dir / ".archiver" / stream).glob("*_*"))
            current = partials[-1] if partials else ""
            table.add_row(stream, it.state, str(it.frames), f"{it.bytes / 1e6:.1f}", str(len(it.files)), current)
        return table

    def _event(self, event: dict[str, Any]) -> str:
        if event["event"] in ("loss", "salvaged"):
            return f"{event['stream']}: LOST: {event['what']}"
        if event["event"] != "file":
            return f"{event['stream']}: {event['event']}: {event['path']}"
        file = FinishedFile(event["path"], event["frames"], event["bytes"], event["why"])
        self._streams[event["stream"]].files.append(file)
        return (
            f"{event['stream']}: finished {file.path} ({file.why}): {file.frames} frames, {file.bytes / 1e6:.1f} MB"
        )

    def _record(self, message: Message) -> Iterator[str]:
        label = RecordHeaders.from_kafka(headers_of(message))
        stream = stream_of_topic(message.topic() or "")
        it = self._streams[stream]
        if label.kind is Kind.FRAME:
            it.frames += label.chunk[0] == 1
            it.bytes += len(message)
        state = _STATE[label.kind] + (f": {label.why}" if label.why else "")
        if state != it.state:
            it.state = state
            yield f"{stream}: {state}"
