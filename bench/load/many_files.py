"""An archive with very many finished files, made without recording: the files, and their events on g3.files."""

import hashlib
from pathlib import Path

from confluent_kafka import Producer

from archiver.core.checkpoint import Checkpoint, RecordId
from archiver.core.events import FileFinished, encode
from archiver.core.paths import SUMS, NameFormat, file_path
from archiver.core.segmentation import CloseReason, Settings, State
from archiver.core.used_names import Names
from bench.load.numbered import Numbered
from g3stream.contract.headers import Kind
from g3stream.contract.topics import FILES_TOPIC

STREAMS = 20
_LATEST = 1_700_000_000
_PERIOD = 600
_EPOCH = "0" * 15 + "1"
_FRAME_BYTES = 100


class OldFiles:
    """Finished files of STREAMS streams, each an acquisition of one frame.

    root: the data directory; group: of its archive.
    """

    def __init__(self, root: Path, group: str) -> None:
        self.count = 0
        self._root = root
        self._group = group
        self._streams = [f"old-{number:02d}" for number in range(STREAMS)]
        self._frames = {stream: Numbered(stream, _FRAME_BYTES) for stream in self._streams}
        self._sums: dict[Path, list[str]] = {}

    def grow(self, servers: str, count: int) -> None:
        """Make files until there are `count`. Returns when their events are on g3.files."""
        producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 20})
        changed = set()
        while self.count < count:
            stream = self._streams[self.count % STREAMS]
            event = self._file(stream, self.count // STREAMS)
            changed.add((self._root / event.path).parent)
            producer.produce(FILES_TOPIC, encode(event), event.key.encode(), partition=0)
            producer.poll(0)
            self.count += 1
            if self.count % 5000 == 0:
                producer.flush()
        producer.flush()
        for directory in changed:
            (directory / SUMS).write_text("".join(self._sums[directory]))

    def _file(self, stream: str, number: int) -> FileFinished:
        """Make the file and return its event."""
        start = _LATEST + number * _PERIOD
        frame = self._frames[stream].frame(number)
        path = file_path(start, stream, 0, NameFormat.DATE)
        final = self._root / path
        final.parent.mkdir(parents=True, exist_ok=True)
        final.write_bytes(frame)
        sha256 = hashlib.sha256(frame).hexdigest()
        self._sums.setdefault(final.parent, []).append(f"{sha256}  {final.name}\n")
        # Its records: START, the frame, END.
        first = RecordId(3 * number + 1, _EPOCH, 3 * number + 1, start * 1000)
        closing = RecordId(3 * number + 2, _EPOCH, 3 * number + 2, start * 1000 + 1, Kind.END)
        state = State(stream, last_frame_ms=first.time, names=Names(start, start, 0, 0), session=1, num=number)
        return FileFinished(
            group=self._group,
            stream=stream,
            path=path,
            number=number + 1,
            id=stream,
            start=start,
            suffix=0,
            settings=Settings(),
            why=CloseReason.END,
            frames=1,
            bytes=len(frame),
            sha256=sha256,
            carry=(),
            first=first,
            last=first,
            closing=closing,
            offset=closing.offset,
            checkpoint=Checkpoint(state, ((_EPOCH, first.seq),), number + 1),
            host="bench",
        )
