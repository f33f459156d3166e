"""Proof of a recording: every file read back by spt3g, and compared with what was sent."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from spt3g import core


class UnreadableError(Exception):
    """spt3g doesn't read a file to its end; the message says which, and what spt3g says."""


class FrameId(NamedTuple):
    """What tells a stream's data frames apart."""

    session: int
    num: int


@dataclass(frozen=True, slots=True)
class Sent:
    """The data frames that a stream's sender sent: Scans; and metadata, which is Observation and Wiring."""

    scans: frozenset[FrameId]
    metadata: frozenset[FrameId]

    @classmethod
    def from_answers(cls, answers: Iterable[dict[str, Any]]) -> "Sent":
        """From what `Simulator.command` answered."""
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
        """How many they are."""
        return len(self.scans) + len(self.metadata)


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame in a file. id: None if it has no session_id or frame_num."""

    is_scan: bool
    id: FrameId | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the frames of a stream.

    recorded: how many of those sent are in a file. repeated: further copies of metadata, as they should be.
    lost: sent, but in no file. duplicates: Scans that are recorded more than once. unknown: recorded, never sent.
    """

    sent: int
    recorded: int
    repeated: int
    lost: tuple[FrameId, ...]
    duplicates: tuple[FrameId, ...]
    unknown: tuple[FrameId | None, ...]

    @property
    def agrees(self) -> bool:
        """Whether exactly what was sent is recorded."""
        return not (self.lost or self.duplicates or self.unknown)

    def differences(self) -> list[str]:
        """A line for each way in which it isn't; none if they agree."""
        wrong = {"lost": self.lost, "recorded twice": self.duplicates, "recorded, but never sent": self.unknown}
        return [f"{len(ids)} {what}: {_abbreviate(ids)}" for what, ids in wrong.items() if ids]


def compare(sent: Sent, recorded: Iterable[RecordedFrame]) -> Comparison:
    """Compare what a stream's sender sent with all that its files hold.

    A Scan must be there exactly once. Metadata may be there more often: it heads the acquisition's following
    files, and a G3NetworkSender sends its latest again to a client that connects anew.
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
        duplicates=tuple(doubled for doubled, count in scans.items() if count > 1),
        unknown=tuple(unknown),
    )


def read_frames(files: Iterable[Path]) -> Iterator[RecordedFrame]:
    """Every frame of these .g3 files, read by spt3g. Raises UnreadableError."""
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
    """The names in a directory's SHA256SUMS or beside it that don't match: as `sha256sum -c`, but both ways."""
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
