"""A record's headers: their meaning, encoding and decoding.

ingest, which publishes the records, owns this schema; the archiver and any other reader import it.

The producer epoch (header `epoch`) is new at each start of ingest. The epochs of one spool are ordered, so a reader
recognizes a duplicate without remembering all of them (producer_epoch.py).

An operator may publish one kind of record too (`archiver close`): a `lost` record, which ends an acquisition whose
ingest died without publishing one. Its headers are `by=operator`, a `why`, an `epoch` of its own with `seq` 0, and
`prev=<epoch>:<seq>`, the last record before the disconnection. It is not part of the chain of epochs: no reader
remembers its epoch, and the `prev` of the next ingest does not name it. It takes effect only if no record later than
`prev` was read before it. So it can't end an acquisition that ingest, alive after all, has continued, nor a later
acquisition if it is read or mirrored a second time.

A record that breaks the contract stops its stream. An operator may copy it to the stream's quarantine topic
(`archiver quarantine`): readers skip each record whose `record_digest` is a key in that topic. The digest identifies
the content; the offset would not do, as it differs in a mirrored topic (topics.py).
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from operator import methodcaller
from typing import NamedTuple, Protocol

from g3stream.contract.topics import ContractError, stream_name

VERSION = 1
CHUNK_BYTES = 1_000_000
"""The largest value of a record. With its headers it fits a broker's default message.max.bytes (1,048,588)."""

HEADER_ORDER = ("v", "kind", "epoch", "seq", "type", "id", "session", "num", "chunk", "why", "prev", "unclean", "by")
"""All headers, in the order in which they are published; a record has only those that apply to it."""
NUMBERED_FRAME_HEADERS = HEADER_ORDER[: HEADER_ORDER.index("num") + 1]
"""The headers of an unsplit frame with a frame_num, the usual record. A reader may be faster with headers in this
order (archiver/core/segmenter.py), and must be right with any order."""

_V = str(VERSION)
_VERSION = _V.encode()
_EPOCH = re.compile(r"[0-9a-f]{16}")
_EPOCH_SEQ = re.compile(rb"([0-9a-f]{16}):([0-9]{1,18})")
_CHUNK = re.compile(rb"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")
_SHORT_HEADERS = frozenset({"v", "kind", "epoch", "type", "id", "session", "chunk", "prev", "by"})
"""Headers whose length is limited by their format: one that is too long is an error."""
_CUT = frozenset({"why", "unclean"})
"""Headers of free length, cut to _MAX_WHY_BYTES: they are cached, and untrusted."""
_CACHED_COMBINATIONS = 64
_MAX_WHY_BYTES = 200
_OPERATOR = "operator"

PublishedHeaders = list[tuple[str, bytes]]
"""Headers as ingest publishes them: (name, value) pairs, in order."""
ConsumedHeaders = list[tuple[str, bytes | None]]
"""Headers as a Kafka consumer returns them: (name, value) pairs, in order; a value may be null."""


class ShownEnum(StrEnum):
    """Persisted values, some of which people see as clearer words."""

    @property
    def shown(self) -> str:
        """The value as log lines, tables and messages show it: `disconnected` for `lost`, as no data is gone."""
        return "disconnected" if self.value == "lost" else self.value


class Kind(ShownEnum):
    """What a record is: a frame, flow control, or a fact about the connection."""

    FRAME = "frame"
    START = "start"
    END = "end"
    CONNECTED = "connected"
    LOST = "lost"
    """The connection to the sender ended; no data is lost by it."""
    QUIET = "quiet"
    """Connected, and no data frame has come for a second; `why` is ALIVE if the sender says that it is there."""


ALIVE = "alive"
"""The `why` of a `quiet` record in whose second flow control ALIVE or CLEANSE came, which has no record."""

_KINDS: Mapping[bytes | None, Kind] = {kind.encode(): kind for kind in Kind}


class RecordHeaders(NamedTuple):
    """A record's headers: everything about it except its bytes and its timestamp.

    A tuple, because one is made for every frame: a frozen dataclass takes four times as long.
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
    """(k, n): the record is the k-th, from 1, of the n chunks of a large record."""
    why: str | None = None
    """The reason for a fact about the connection, one line."""
    prev: tuple[str, int] | None = None
    """In an epoch's first record: the epoch and last seq before it. In an operator's: the record it follows."""
    unclean: bool = False
    """In an epoch's first record: the host went down before a clean shutdown of ingest."""
    operator: bool = False
    """Published by an operator, not by ingest; always of kind `lost`."""

    def to_kafka(self) -> PublishedHeaders:
        """Encode as Kafka headers, with values in bytes; `from_kafka` decodes them."""
        return [(name, text.encode()) for name, text in self.to_text()]

    def to_text(self) -> list[tuple[str, str]]:
        """Encode as headers with values in text, one line of ASCII each; a Kafka producer accepts these too."""
        kind, epoch, seq, code, stream_id, session, num, chunk, why, prev, unclean, operator = self
        before, after = _usual_texts(kind, epoch, code, stream_id, session)
        headers = [*before, ("seq", str(seq)), *after]
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
        """Decode untrusted headers; unknown ones are ignored. Raises ContractError."""
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
            raise ContractError("a record without the header seq")
        num = _integer("num", num_text, -(2**63), 2**63)
        # By position, in the order of the fields: by keyword it takes 0.35 µs more, of 1.5 for all of it.
        return cls(kind, epoch, seq, code, stream_id, session, num, chunk, why, prev, unclean, operator)


@lru_cache(_CACHED_COMBINATIONS)
def _usual_texts(
    kind: Kind, epoch: str, code: int | None, stream_id: str | None, session: int | None
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the headers before `seq`, and those from there to `num`.

    Of a connection's frames they are the same: cached, a frame's headers take 0.7 µs instead of 1.2.
    """
    after = (("type", code), ("id", stream_id), ("session", session))
    return [("v", _V), ("kind", str(kind)), ("epoch", epoch)], [(n, str(it)) for n, it in after if it is not None]


@lru_cache(_CACHED_COMBINATIONS)
def _unnumbered(headers: tuple[tuple[str, bytes | None], ...]) -> RecordHeaders:
    """Decode all headers except `seq` and `num`. Raises ContractError.

    Those two differ from record to record; the others have few combinations at a time: one or two for a stream's
    frames of one connection, one for each chunk of a split frame. So the results for the latest 64 combinations are
    cached by the headers' bytes: 1.5 µs a record instead of 4.1. Errors aren't cached.
    """
    values = dict(headers)
    if len(values) < len(headers):
        raise ContractError("a record with two headers of the same name")
    version, kind_text = values.get("v"), values.get("kind")
    if version != _VERSION:
        shown = version and version[:30]
        raise ContractError(f"a record of contract version {shown!r}; this program reads {VERSION}")
    kind = _KINDS.get(kind_text)
    if kind is None:
        raise ContractError(f"a record of unknown kind {kind_text and kind_text[:30]!r}")
    stream_id, why = values.get("id"), values.get("why")
    decoded = RecordHeaders(
        kind=kind,
        epoch=_epoch(values.get("epoch")),
        seq=0,
        type=_integer("type", values.get("type"), 0, 2**32),
        id=None if stream_id is None else stream_name(stream_id.decode("ascii", "replace")),
        session=_integer("session", values.get("session"), -(2**63), 2**63),
        chunk=_chunk(values.get("chunk")),
        why=None if why is None else why[:_MAX_WHY_BYTES].decode("ascii", "backslashreplace"),
        prev=_prev(values.get("prev")),
        unclean=values.get("unclean") == b"1",
        operator=_operator(values.get("by")),
    )
    if decoded.operator and (kind is not Kind.LOST or decoded.chunk != (1, 1) or decoded.prev is None):
        raise ContractError("a record by an operator whose kind is not lost, which is split, or has no prev")
    return decoded


class ConsumedMessage(Protocol):
    """The part of confluent_kafka's Message that pure code uses, without importing it."""

    def headers(self) -> object: ...
    def set_headers(self, headers: list[tuple[str, str | bytes | None]], /) -> None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def offset(self) -> int | None: ...
    def __len__(self) -> int: ...


_headers_called_from_c = methodcaller("headers")
_UNREADABLE: list[tuple[str, str | bytes | None]] = []
"""Set on a message in place of headers that could not be read; recognized by identity."""
_WHY_UNREADABLE = "a record with a header that can't be read"


def headers_of(message: ConsumedMessage) -> ConsumedHeaders:
    """Return a message's headers, in order. Raises ContractError, at each call, if they can't be read.

    Such headers could crash the process. confluent-kafka (2.16) makes a list of (name, value) pairs in which a name
    that isn't UTF-8 is a null pointer, and returns the list with an exception set. If `message.headers` is called
    from Python bytecode, that exception appears wherever the interpreter checks next: on 3.13, in some other call. If
    it is called from C, the exception appears at once, as a SystemError, on every version. And the message keeps the
    list: the next call returns it without an exception, and using it crashes.
    """
    try:
        found: ConsumedHeaders | None = _headers_called_from_c(message)
    except SystemError:
        message.set_headers(_UNREADABLE)
        raise ContractError(_WHY_UNREADABLE) from None
    if found is _UNREADABLE:
        raise ContractError(_WHY_UNREADABLE)
    return found or []


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    """Encode headers for the spool, one line NAME=VALUE each."""
    return "\n".join(map("=".join, headers)).encode("ascii")


def decode_headers(text: bytes) -> list[tuple[str, str]]:
    """Decode headers that `encode_headers` encoded for the spool."""
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
    """Return the SHA-256 of a record's content, in hex digits: the same in every copy of the record.

    time_ms: the record's timestamp, ms since 1970. headers: None if they can't be read.
    """
    digest = hashlib.sha256(b"%d" % time_ms)
    parts: list[bytes | None] = [key, value, b"" if headers is None else b"headers"]
    for name, text in headers or ():
        parts += [name.encode(), text]
    for part in parts:
        digest.update(b"-" if part is None else b"%d:" % len(part))
        digest.update(part or b"")
    return digest.hexdigest()


def digest_of(message: ConsumedMessage) -> str:
    """Return the digest of a message, as `record_digest` computes it."""
    try:
        headers = headers_of(message)
    except ContractError:
        headers = None
    return record_digest(message.timestamp()[1], message.key(), message.value(), headers)


def _epoch(text: bytes | None) -> str:
    epoch = (text or b"").decode("ascii", "replace")
    if not _EPOCH.fullmatch(epoch):
        raise ContractError(f"a record with epoch {epoch[:40]!r}; 16 hex digits are needed")
    return epoch


def _integer(name: str, text: bytes | None, low: int, high: int) -> int | None:
    if text is None:
        return None
    if len(text) < 10 and text.isdigit():
        return int(text)  # the usual case, within each range used here
    # int() alone would accept blanks, underscores and digits of other scripts, and be slow on a long text.
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
        raise ContractError(f"a record whose header by is {text[:30]!r}; it can only be {_OPERATOR}")
    return text is not None
