"""Record headers: what is encoded is decoded unchanged, and no hostile header does harm."""

import re
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g3stream.contract.headers import CHUNK_BYTES, HEADER_ORDER, NUMBERED_FRAME_HEADERS, Kind, RecordHeaders
from g3stream.contract.topics import ContractError, stream_name

EPOCHS = st.text("0123456789abcdef", min_size=16, max_size=16)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
INT64 = st.integers(-(2**63), 2**63 - 1)
CHUNKS = st.integers(1, 999_999_999).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n)))
HEADERS = st.builds(
    RecordHeaders,
    st.sampled_from(Kind),
    EPOCHS,
    st.integers(0, 2**63 - 1),
    type=st.none() | st.integers(0, 2**32 - 1),
    id=st.none() | NAMES,
    session=st.none() | INT64,
    num=st.none() | INT64,
    chunk=CHUNKS,
    why=st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200),
    prev=st.none() | st.tuples(EPOCHS, st.integers(0, 10**18 - 1)),
    unclean=st.booleans(),
    operator=st.just(False),
) | st.tuples(EPOCHS, EPOCHS).map(
    lambda epochs: RecordHeaders(Kind.LOST, epochs[0], 0, why="closed", prev=(epochs[1], 7), operator=True)
)
GOOD = {"v": b"1", "kind": b"frame", "epoch": b"0123456789abcdef", "seq": b"5"}


@settings(max_examples=70, deadline=None)
@given(HEADERS)
def test_encoded_headers_are_decoded_unchanged(headers: RecordHeaders) -> None:
    assert RecordHeaders.from_kafka(headers.to_kafka()) == headers


@settings(max_examples=70, deadline=None)
@given(HEADERS)
def test_headers_are_one_short_line_of_ascii_each(headers: RecordHeaders) -> None:
    names = [name for name, _ in headers.to_kafka()]
    assert len(set(names)) == len(names)
    for name, text in headers.to_kafka():
        assert name.isascii()
        assert re.fullmatch(rb"[\x20-\x7e]*", text)
    assert sum(len(name) + len(text) for name, text in headers.to_kafka()) + CHUNK_BYTES < 1_048_588


@settings(max_examples=50, deadline=None)
@given(HEADERS, st.lists(st.tuples(st.text(min_size=1).map("x-".__add__), st.none() | st.binary())))
def test_unknown_headers_are_ignored(headers: RecordHeaders, more: list[tuple[str, bytes | None]]) -> None:
    assert RecordHeaders.from_kafka([*more, *headers.to_kafka()]) == headers


@settings(max_examples=70, deadline=None)
@given(HEADERS)
def test_headers_are_published_in_one_order(headers: RecordHeaders) -> None:
    names = {name for name, _ in headers.to_kafka()}
    assert [name for name, _ in headers.to_kafka()] == [name for name in HEADER_ORDER if name in names]


def test_a_numbered_frame_has_the_headers_that_readers_are_fast_with() -> None:
    headers = RecordHeaders(Kind.FRAME, "0" * 16, 5, ord("S"), "crate1slot2", 1_700_000_000, 7)
    assert tuple(name for name, _ in headers.to_kafka()) == NUMBERED_FRAME_HEADERS
    every = RecordHeaders(Kind.LOST, "0" * 16, 5, 0, "s", 1, 2, (1, 2), "closed", ("0" * 16, 4), True, True)
    assert tuple(name for name, _ in every.to_kafka()) == HEADER_ORDER


def test_only_headers_that_apply_are_published() -> None:
    assert dict(RecordHeaders(Kind.FRAME, "0" * 16, 0).to_kafka()).keys() == {"v", "kind", "epoch", "seq"}


@pytest.mark.parametrize("why", ["cut\nhere", "caf\u00e9", "\U0001f4a5", "\ud800"])
def test_why_becomes_one_line_of_ascii(why: str) -> None:
    text = dict(RecordHeaders(Kind.LOST, "0" * 16, 0, why=why).to_kafka())["why"]
    assert text.isascii()
    assert b"\n" not in text


def test_a_long_why_is_cut() -> None:
    read = RecordHeaders.from_kafka([*GOOD.items(), ("why", b"x" * 100_000)])
    assert read.why == "x" * 200


@pytest.mark.parametrize("missing", GOOD)
def test_a_missing_header_is_refused(missing: str) -> None:
    with pytest.raises(ContractError):
        RecordHeaders.from_kafka(item for item in GOOD.items() if item[0] != missing)


HOSTILE: dict[str, list[bytes]] = {
    "v": [b"", b"2", b"1 ", b"01", b"\xff"],
    "kind": [b"", b"Frame", b"frame\n", b"files", b"\xff\xfe"],
    "epoch": [
        b"",
        b"0" * 15,
        b"0" * 17,
        b"0123456789ABCDEF",
        b"0123456789abcde\n",
        b"0123456789abcdef\n",
        b"\xff" * 16,
    ],
    "seq": [b"", b"-1", b"-", b"+1", b" 1", b"1 ", b"1_0", b"1.0", b"0x1", b"%d" % 2**63, b"9" * 5000, b"\xd9\xa1"],
    "type": [b"", b"-1", b"%d" % 2**32, b"S", b"1\n"],
    "id": [b"", b"../../etc", b"x" * 65, b"a\n", b"\xff", b"a/b", b"a b"],
    "session": [b"", b"--1", b"%d" % 2**63, b"-%d" % (2**63 + 1), b"1e3", b"nan"],
    "num": [b"", b"1-", b"%d" % 2**63, b"None"],
    "chunk": [b"", b"1", b"0/1", b"2/1", b"1/0", b"-1/2", b"1/2/3", b" 1/2", b"1/2\n", b"01/2", b"1/9999999999"],
    "by": [b"", b"Operator", b"operator\n", b"ingest", b"\xff"],
    "prev": [b"", b"0:1", b"0" * 16, b"0" * 16 + b":", b"0" * 16 + b":-1", b"0" * 16 + b":1\n", b"g" * 16 + b":1"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in HOSTILE.items() for text in texts])
def test_a_hostile_header_is_refused_without_quoting_it_raw(name: str, text: bytes) -> None:
    with pytest.raises(ContractError) as refused:
        RecordHeaders.from_kafka({**GOOD, name: text}.items())
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 250


OPERATORS = {**GOOD, "kind": b"lost", "seq": b"0", "by": b"operator", "prev": b"0123456789abcdef:7"}


def test_an_operators_record_is_recognized() -> None:
    read = RecordHeaders.from_kafka(OPERATORS.items())
    assert (read.operator, read.kind, read.prev) == (True, Kind.LOST, ("0123456789abcdef", 7))
    assert not RecordHeaders.from_kafka(GOOD.items()).operator


@pytest.mark.parametrize(
    "wrong", [{"kind": b"frame"}, {"kind": b"end"}, {"chunk": b"1/2"}, {"prev": None}], ids=lambda wrong: str(wrong)
)
def test_an_operator_publishes_only_a_whole_lost_record_with_prev(wrong: dict[str, bytes]) -> None:
    headers = {name: text for name, text in {**OPERATORS, **wrong}.items() if text is not None}
    with pytest.raises(ContractError, match="by an operator"):
        RecordHeaders.from_kafka(headers.items())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*GOOD, "type", "id", "session", "num", "chunk", "why", "prev", "unclean", "by", "?"]),
            st.none()
            | st.binary(max_size=30)
            | st.sampled_from([text for texts in HOSTILE.values() for text in texts]),
        )
    ),
    st.booleans(),
)
def test_random_headers_give_a_label_or_a_contract_error(hostile: list[tuple[str, bytes | None]], base: bool) -> None:
    good: list[tuple[str, bytes | None]] = [*GOOD.items()] if base else []
    try:
        headers = RecordHeaders.from_kafka(good + hostile)
    except ContractError:
        return
    assert re.fullmatch("[0-9a-f]{16}", headers.epoch)
    assert 0 <= headers.seq < 2**63
    assert headers.id is None or stream_name(headers.id)
    assert 1 <= headers.chunk[0] <= headers.chunk[1]


def test_headers_as_long_as_a_message_keep_no_memory() -> None:
    base = RecordHeaders(Kind.LOST, "0" * 16, 0).to_kafka()
    long = b"x" * 1_000_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(100):
            mark = b"%d" % number
            for more in (
                [("why", mark + long)],
                [("unclean", mark + long)],
                [(f"unknown{number}", mark + long)],
                [(f"unknown{number}-{n}", b"") for n in range(1000)],
            ):
                assert RecordHeaders.from_kafka([*base, *more]).kind is Kind.LOST
            for name in ("v", "kind", "epoch", "seq", "type", "id", "session", "num", "chunk", "prev"):
                with pytest.raises(ContractError) as refused:
                    RecordHeaders.from_kafka(
                        [(name, mark + long), *base] if name != "seq" else [*base, (name, mark + long)]
                    )
                assert len(str(refused.value)) < 250
        assert tracemalloc.get_traced_memory()[0] - before < 8 << 20
    finally:
        tracemalloc.stop()
