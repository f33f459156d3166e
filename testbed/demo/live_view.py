"""Live view of the streams, from their topics, g3.files and the data directory.

An example of "other consumers": it commits nothing, and neither ingest nor the archiver knows of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from rich.table import Table

from archiver.core.segmentation import CloseReason
from g3stream.contract.headers import Kind, RecordHeaders, headers_of
from g3stream.contract.topics import FILES_TOPIC, frames_topic, stream_of_topic

_STATE: Mapping[Kind, str] = {
    Kind.FRAME: "receiving frames",
    Kind.START: "START",
    Kind.END: "END",
    Kind.CONNECTED: "connected",
    Kind.LOST: "no connection",
    Kind.QUIET: "idle",
}


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A file that the archiver has finished."""

    path: str
    """Relative to the data directory."""
    frames: int
    """Number of frames, without the carried ones."""
    bytes: int
    closed_by: str
    """What ended the file: start, end, gap, time (per file) or disconnected."""


@dataclass(slots=True)
class _StreamView:
    state: str = "not connected"
    frames: int = 0
    bytes: int = 0
    files: list[FinishedFile] = field(default_factory=list)


class LiveView:
    """A view of streams from their first record on. servers: Kafka's. data_dir: the archiver's."""

    def __init__(self, servers: str, streams: Sequence[str], data_dir: Path) -> None:
        self._data_dir = data_dir
        self._streams = {stream: _StreamView() for stream in streams}
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "unused",  # it must have a name, but is never joined
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
                "log_level": 0,  # the broker is expected to stop at the end
            }
        )
        self._topics = [*map(frames_topic, streams), FILES_TOPIC]
        self._consumer.assign([TopicPartition(topic, 0, 0) for topic in self._topics])

    def close(self) -> None:
        """Close the connection to Kafka."""
        self._consumer.close()

    def poll(self, timeout_s: float) -> Iterator[str]:
        """Yield a line for each thing that has happened, waiting `timeout_s` for the first. Raises KafkaException."""
        for message in self._consumer.consume(500, timeout_s):
            if (error := message.error()) is not None:
                # librdkafka recovers from other errors, as that a stream has no topic before its first record.
                if error.fatal():
                    raise KafkaException(error)
            elif message.topic() == FILES_TOPIC:
                yield self._event(json.loads(message.value() or b""))
            else:
                yield from self._record(message)

    def is_at_end(self) -> bool:
        """Whether it has read all that is in the topics now, and every frame of that is in a finished file."""
        for position in self._consumer.position([TopicPartition(topic, 0) for topic in self._topics]):
            _, end = self._consumer.get_watermark_offsets(TopicPartition(position.topic, 0), 5.0)
            if position.offset < end:
                return False
        return all(view.frames == sum(file.frames for file in view.files) for view in self._streams.values())

    def files(self, stream: str) -> Sequence[FinishedFile]:
        """Return the finished files of a stream, in order."""
        return self._streams[stream].files

    def table(self) -> Table:
        """Return a table of the streams' present state."""
        table = Table("stream", "state", "frames", "MB", "files", "current file", expand=True)
        for column in table.columns[2:5]:
            column.justify = "right"
        for stream, view in self._streams.items():
            partials = sorted(path.name for path in (self._data_dir / ".archiver" / stream).glob("*_*"))
            current = partials[-1] if partials else ""
            figures = str(view.frames), f"{view.bytes / 1e6:.1f}", str(len(view.files))
            table.add_row(stream, view.state, *figures, current)
        return table

    def _event(self, event: dict[str, Any]) -> str:
        if event["event"] in ("loss", "salvaged"):
            return f"{event['stream']}: LOST: {event['what']}"
        if event["event"] != "file":
            return f"{event['stream']}: {event['event']}: {event['path']}"
        file = FinishedFile(event["path"], event["frames"], event["bytes"], CloseReason(event["why"]).shown)
        self._streams[event["stream"]].files.append(file)
        return f"{event['stream']}: finished {Path(file.path).stem}: {file.closed_by}, {file.frames} frames"

    def _record(self, message: Message) -> Iterator[str]:
        headers = RecordHeaders.from_kafka(headers_of(message))
        stream = stream_of_topic(message.topic() or "")
        view = self._streams[stream]
        if headers.kind is Kind.FRAME:
            view.frames += headers.chunk[0] == 1
            view.bytes += len(message)
        state = _STATE[headers.kind] + (f": {headers.why}" if headers.why else "")
        if state != view.state:
            view.state = state
            yield f"{stream}: {state}"
