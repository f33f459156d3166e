"""Comparison of a recording, read back by spt3g, with what was sent."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from spt3g import core


class UnreadableError(Exception):
    """spt3g can't read a file to its end. The message has the file's name and spt3g's reason."""


class FrameId(NamedTuple):
    """Identity of a data frame within its stream."""

    session: int
    num: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The data frames that a stream's sender has sent."""

    scans: frozenset[FrameId]
    metadata: frozenset[FrameId]
    """Observation and Wiring frames."""

    @classmethod
    def from_answers(cls, answers: Iterable[dict[str, Any]]) -> "Sent":
        """Make it from the answers of `Simulator.command`."""
        scans: set[FrameId] = set()
        metadata: set[FrameId] = set()
        for answer in answers:
            if answer["frames"]:
                numbers = range(answer["first"], answer["last"] + 1)
                kind = scans if answer["command"] == "frames" else metadata
                kind.update(FrameId(answer["session"], num) for num in numbers)
        return cls(frozenset(scans), frozenset(metadata))

    @property
    def frames(self) -> int:
        """The number of all of them."""
        return len(self.scans) + len(self.metadata)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame in a file."""

    is_scan: bool
    id: FrameId | None
    """None if it has no session_id or frame_num."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The frames of a stream: sent against recorded."""

    sent: int
    """Number of frames sent."""
    recorded: int
    """Number of the sent frames that are in a file."""
    repeated: int
    """Number of further copies of metadata, which are expected."""
    lost: tuple[FrameId, ...]
    """Sent, but in no file."""
    duplicates: tuple[FrameId, ...]
    """Scans recorded more than once."""
    unknown: tuple[FrameId | None, ...]
    """Recorded, but never sent."""

    @property
    def agrees(self) -> bool:
        """Whether exactly what was sent is recorded."""
        return not (self.lost or self.duplicates or self.unknown)

    def differences(self) -> list[str]:
        """Return a line for each kind of difference; none if they agree."""
        wrong = {"lost": self.lost, "recorded twice": self.duplicates, "recorded, but never sent": self.unknown}
        return [f"{len(ids)} {what}: {_abbreviate(ids)}" for what, ids in wrong.items() if ids]


def compare(sent: Sent, recorded: Iterable[RecordedFrame]) -> Comparison:
    """Compare what a stream's sender has sent with the content of all its files.

    A Scan must be recorded exactly once. Metadata may be recorded more often: it is repeated at the head of the
    acquisition's next files, and a G3NetworkSender sends the latest again to a client that reconnects.
    """
    scans: Counter[FrameId] = Counter()
    metadata: Counter[FrameId] = Counter()
    unknown: list[FrameId | None] = []
    for frame in recorded:
        known, counter = (sent.scans, scans) if frame.is_scan else (sent.metadata, metadata)
        if frame.id in known:
            counter[frame.id] += 1
        else:
            unknown.append(frame.id)
    return Comparison(
        sent=sent.frames,
        recorded=len(scans) + len(metadata),
        repeated=metadata.total() - len(metadata),
        lost=tuple(sorted((sent.scans - scans.keys()) | (sent.metadata - metadata.keys()))),
        duplicates=tuple(scan for scan, count in scans.items() if count > 1),
        unknown=tuple(unknown),
    )


def read_frames(files: Iterable[Path]) -> Iterator[RecordedFrame]:
    """Yield every frame of these .g3 files, read by spt3g. Raises UnreadableError."""
    for path in files:
        try:
            for frame in core.G3File(str(path)):
                numbered = "session_id" in frame and "frame_num" in frame
                yield RecordedFrame(
                    frame.type == core.G3FrameType.Scan,
                    FrameId(frame["session_id"], frame["frame_num"]) if numbered else None,
                )
        except RuntimeError as error:
            raise UnreadableError(f"spt3g can't read {path}: {error}") from error


def mismatched_checksums(directory: Path) -> list[str]:
    """Return the names of a directory's files that differ from its SHA256SUMS, or are missing in one of the two."""
    sums = directory / "SHA256SUMS"
    lines = sums.read_text().splitlines() if sums.exists() else []
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {}
    for path in directory.glob("*.g3"):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sorted(name for name in listed.keys() | found.keys() if listed.get(name) != found.get(name))


def _abbreviate(ids: tuple[FrameId | None, ...]) -> str:
    shown = [f"{frame.session}/{frame.num}" if frame else "without a number" for frame in ids[:5]]
    return ", ".join(shown) + (", …" if len(ids) > len(shown) else "")
