"""A record's headers: their meaning, and how they are encoded and decoded.

ingest, which publishes the records, owns this schema; the archiver and any other reader import it.

An epoch is new at each start of ingest. Those of one spool are in order, so that a reader need not remember all of
them to know a duplicate (producer_epoch.py).

Besides ingest, an operator may publish one kind of record (`archiver close`): a `lost` that ends an acquisition whose
ingest died without publishing one. Its headers are `by=operator`, a `why`, an `epoch` of its own with `seq` 0, and
`prev=<epoch>:<seq>`: the last record before it, after which the connection was lost. It takes no part in the chain of
epochs: no reader remembers its epoch, and the next ingest's `prev` names another. It takes effect only if no record
later than `prev` has been read before it: so it can't end an acquisition that an ingest which is alive after all has
continued, nor a later one where it is read or mirrored once more.

A record that breaks the contract stops its stream. An operator may copy it to the stream's quarantine topic, by
`archiver quarantine`: readers leave out a record whose `record_digest` is the key of one there. That is its content,
not its offset, which is another in a mirrored topic (topics.py).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from g3stream.contract.errors import ContractError
from g3stream.contract.topics import stream_name

VERSION = 1
CHUNK_BYTES = 1_000_000
"""The largest value of a record. With its headers it fits a broker's default message.max.bytes (1,048,588)."""

HEADER_ORDER = ("v", "kind", "epoch", "seq", "type", "id", "session", "num", "chunk", "why", "prev", "unclean", "by")
"""All headers, in the order in which they are published; a record has those of them that apply to it."""
NUMBERED_FRAME_HEADERS = HEADER_ORDER[: HEADER_ORDER.index("num") + 1]
"""The headers of a frame that is published whole and has a number of its own, as nearly all have. Readers may be
faster with headers in this order (archiver/core/fast_path.py), and must be right with any."""

_V = str(VERSION)
_VERSION = _V.encode()
_EPOCH = re.compile(r"[0-9a-f]{16}")
_EPOCH_SEQ = re.compile(rb"([0-9a-f]{16}):([0-9]{1,18})")
_CHUNK = re.compile(rb"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")
_SHORT_HEADERS = frozenset({"v", "kind", "epoch", "type", "id", "session", "chunk", "prev", "by"})
"""Headers that are refused if they are long."""
_CUT = frozenset({"why", "unclean"})
"""Headers that are cut if they are long: as they are cached, they must not be as long as it pleases a stranger."""
_CACHED_COMBINATIONS = 64
_MAX_WHY_BYTES = 200
_OPERATOR = "operator"

Headers = list[tuple[str, bytes]]
"""As Kafka clients give and take them."""


class Kind(StrEnum):
    """What a record is: a frame, flow control, or a fact about the connection."""

    FRAME = "frame"
    START = "start"
    END = "end"
    CONNECTED = "connected"
    LOST = "lost"
    QUIET = "quiet"


_KINDS: Mapping[bytes | None, Kind] = {kind.encode(): kind for kind in Kind}


class RecordHeaders(NamedTuple):
    """A record's headers: everything about it but its bytes and its timestamp.

    (A tuple, as one is made for every frame: a frozen dataclass takes four times as long.)

    """

    kind: Kind
    epoch: str
    """The producer epoch: 16 hex digits, new at each start of ingest (producer_epoch.py)."""
    seq: int
    """The record's number in its epoch, from 0."""
    type: int | None = None
    """The G3 frame's type code (u32)."""
    id: str | None = None
    """The frame's sostream_id, if it is a valid name."""
    session: int | None = None
    """The frame's session_id, if it is an integer."""
    num: int | None = None
    """The frame's frame_num, if it is an integer."""
    chunk: tuple[int, int] = (1, 1)
    """(k, n): the k-th (from 1) of the n parts that a large record is split into."""
    why: str | None = None
    """The reason for a fact about the connection, one line."""
    prev: tuple[str, int] | None = None
    """On an epoch's first record: epoch and last seq of its predecessor. On an operator's: the record it follows."""
    unclean: bool = False
    """On an epoch's first record: the host went down before ingest had stopped in order."""
    operator: bool = False
    """Published by an operator, not by ingest; always a `lost`."""

    def to_kafka(self) -> Headers:
        """The Kafka headers, as bytes; `from_kafka` reads them back."""
        return [(name, text.encode()) for name, text in self.to_text()]

    def to_text(self) -> list[tuple[str, str]]:
        """The same headers as text, which a Kafka producer takes too: one line of ASCII each."""
        kind, epoch, seq, code, stream_id, session, num, chunk, why, prev, unclean, operator = self
        headers = [("v", _V), ("kind", str(kind)), ("epoch", epoch), ("seq", str(seq))]
        if code is not None:
            headers.append(("type", str(code)))
        if stream_id is not None:
            headers.append(("id", stream_id))
        if session is not None:
            headers.append(("session", str(session)))
        if num is not None:
            headers.append(("num", str(num)))
        if chunk != (1, 1):
            headers.append(("chunk", f"{chunk[0]}/{chunk[1]}"))
        if why is not None:
            headers.append(("why", _one_line(why)))
        if prev is not None:
            headers.append(("prev", f"{prev[0]}:{prev[1]}"))
        if unclean:
            headers.append(("unclean", "1"))
        if operator:
            headers.append(("by", _OPERATOR))
        return headers

    @classmethod
    def from_kafka(cls, headers: Iterable[tuple[str, bytes | None]]) -> "RecordHeaders":
        """Decode headers, trusting none of them; unknown ones are ignored. Raises ContractError."""
        seq_text = num_text = None
        others = []
        for pair in headers:
            name = pair[0]
            if name == "seq":
                seq_text = pair[1]
            elif name == "num":
                num_text = pair[1]
            elif name in _SHORT_HEADERS:
                others.append(pair)
            elif name in _CUT:
                others.append((name, pair[1] and pair[1][:_MAX_WHY_BYTES]))
        kind, epoch, _, code, stream_id, session, _, chunk, why, prev, unclean, operator = _unnumbered(tuple(others))
        seq = _integer("seq", seq_text, 0, 2**63)
        if seq is None:
            raise ContractError("a record without a seq")
        num = _integer("num", num_text, -(2**63), 2**63)
        # By position, in the order of the fields: by keyword it takes 0.35 µs more, of 1.5 for all of it.
        return cls(kind, epoch, seq, code, stream_id, session, num, chunk, why, prev, unclean, operator)


@lru_cache(_CACHED_COMBINATIONS)
def _unnumbered(headers: tuple[tuple[str, bytes | None], ...]) -> RecordHeaders:
    """Read all headers but `seq` and `num`. Raises ContractError.

    Those two differ from record to record; of all others there are few combinations at a time: a stream's frames of
    one connection have one or two, a split frame one for each chunk. So the result is cached by the headers' bytes,
    the last 64 combinations of them: 1.5 µs a record instead of 4.1. What is refused isn't cached.
    """
    got = dict(headers)
    if len(got) < len(headers):
        raise ContractError("a record with two headers of one name")
    version, kind_text = got.get("v"), got.get("kind")
    if version != _VERSION:
        shown = version and version[:30]
        raise ContractError(f"a record of contract version {shown!r}; this program reads {VERSION}")
    kind = _KINDS.get(kind_text)
    if kind is None:
        raise ContractError(f"a record of unknown kind {kind_text and kind_text[:30]!r}")
    stream_id, why = got.get("id"), got.get("why")
    label = RecordHeaders(
        kind=kind,
        epoch=_epoch(got.get("epoch")),
        seq=0,
        type=_integer("type", got.get("type"), 0, 2**32),
        id=None if stream_id is None else _id(stream_id),
        session=_integer("session", got.get("session"), -(2**63), 2**63),
        chunk=_chunk(got.get("chunk")),
        why=None if why is None else why[:_MAX_WHY_BYTES].decode("ascii", "backslashreplace"),
        prev=_prev(got.get("prev")),
        unclean=got.get("unclean") == b"1",
        operator=_operator(got.get("by")),
    )
    if label.operator and (kind is not Kind.LOST or label.chunk != (1, 1) or label.prev is None):
        raise ContractError("a record by an operator that is no lost, is split, or has no prev")
    return label


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Encode headers for the spool: one line NAME=VALUE each."""
    return "\n".join([f"{name}={value}" for name, value in headers]).encode("ascii")


def decode_headers(text: bytes) -> list[tuple[str, str]]:
    """Decode headers that were encoded for the spool."""
    headers = []
    for line in text.decode("ascii").split("\n"):
        name, _, value = line.partition("=")
        headers.append((name, value))
    return headers


def _one_line(why: str) -> str:
    return why.replace("\n", " ").encode("ascii", "backslashreplace").decode()


def record_digest(
    time_ms: int, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None
) -> str:
    """A record's content as a SHA-256 (hex digits), the same wherever the record is copied to.

    time_ms: ms. headers: None if they can't be read.
    """
    digest = hashlib.sha256(b"%d" % time_ms)
    parts: list[bytes | None] = [key, value, b"" if headers is None else b"headers"]
    for name, text in headers or ():
        parts += [name.encode(), text]
    for part in parts:
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.hexdigest()


def _epoch(text: bytes | None) -> str:
    epoch = (text or b"").decode("ascii", "replace")
    if not _EPOCH.fullmatch(epoch):
        raise ContractError(f"a record with epoch {epoch[:40]!r}; 16 hex digits are needed")
    return epoch


def _id(text: bytes) -> str:
    return stream_name(text.decode("ascii", "replace"))


def _integer(name: str, text: bytes | None, low: int, high: int) -> int | None:
    if text is None:
        return None
    if len(text) < 10 and text.isdigit():
        return int(text)  # the usual: in every range below
    # int() alone would take blanks, underscores and other scripts' digits; and a long text takes it long.
    if not (len(text) <= 20 and (text[1:] if text[:1] == b"-" else text).isdigit()):
        raise ContractError(f"a record whose {name} is {text[:30]!r}, not an integer")
    number = int(text)
    if not low <= number < high:
        raise ContractError(f"a record whose {name} is {number}, out of range")
    return number


def _chunk(text: bytes | None) -> tuple[int, int]:
    if text is None:
        return (1, 1)
    match = _CHUNK.fullmatch(text)
    if match is None or int(match[1]) > int(match[2]):
        raise ContractError(f"a record whose chunk is {text[:30]!r}, not k/n")
    return (int(match[1]), int(match[2]))


def _prev(text: bytes | None) -> tuple[str, int] | None:
    if text is None:
        return None
    match = _EPOCH_SEQ.fullmatch(text)
    if match is None:
        raise ContractError(f"a record whose prev is {text[:60]!r}, not epoch:seq")
    return (match[1].decode(), int(match[2]))


def _operator(text: bytes | None) -> bool:
    if text is not None and text != _OPERATOR.encode():
        raise ContractError(f"a record by {text[:30]!r}; only ingest, which doesn't say so, and operator are known")
    return text is not None
