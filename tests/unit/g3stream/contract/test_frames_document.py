"""docs/reference/g3.frames.md, the contract for readers in any language: its tables and examples are as ours are."""

import re
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import pytest
from spt3g import core

from g3stream.contract.headers import CHUNK_BYTES, HEADER_ORDER, Kind, PublishedHeaders, RecordHeaders, record_digest
from g3stream.contract.sequence import EPOCHS_REMEMBERED, SequenceTracker
from g3stream.contract.topics import (
    FRAMES_TOPIC_CONFIG,
    FRAMES_TOPIC_PATTERN,
    QUARANTINE_TOPIC_CONFIG,
    REJECTED_TOPIC_CONFIG,
    ContractError,
)
from g3stream.frame_format.reader import read_frame
from g3stream.frame_format.scalars import integer
from tests.support.processes import frame

PAGE = (Path(__file__).parents[4] / "docs" / "reference" / "g3.frames.md").read_text()


def blocks(language: str) -> str:
    """The text of the page's blocks of that language."""
    return "".join(re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))


def rows(heading: str) -> Iterator[list[str]]:
    """The rows of the table that begins with that heading: its cells, without the marks of code."""
    _, _, table = PAGE.partition(f"\n| {heading} |")
    for line in table.split("\n\n")[0].splitlines()[2:]:
        yield [cell.strip().strip("`") for cell in line.strip("|").split("|")]


def headers(text: str) -> PublishedHeaders:
    """Headers, written as name=value with blanks between them; a value may have blanks, too."""
    return [(name, value.encode()) for name, value in re.findall(r"(\S+?)=(.*?)(?= \w+=|$)", text)]


EXAMPLES = re.findall(r'^(\d+) +(.+)\n   "(.*)" → (.+)$', blocks("messages"), re.MULTILINE)
INVALID = re.findall(r"^(.+)\n   → (.+)$", blocks("invalid"), re.MULTILINE)


def test_its_tables_are_those_of_the_code() -> None:
    assert tuple(name for name, *_ in rows("header")) == HEADER_ORDER
    assert [kind for name, *_ in rows("`kind` | what happened") for kind in name.split("`, `")] == list(Kind)
    for column, config in enumerate((FRAMES_TOPIC_CONFIG, REJECTED_TOPIC_CONFIG, QUARANTINE_TOPIC_CONFIG), 1):
        assert {row[0]: row[column] for row in rows("setting") if row[column]} == config
    assert f"`{FRAMES_TOPIC_PATTERN}`" in PAGE
    assert f"value ≤ {CHUNK_BYTES:,} bytes" in PAGE
    assert f"remember the {EPOCHS_REMEMBERED} epochs with the latest records" in PAGE


def test_our_reader_does_with_its_example_what_it_says() -> None:
    seen = SequenceTracker()
    assert [int(number) for number, *_ in EXAMPLES] == list(range(21))
    for offset, (_, text, value, outcome) in enumerate(EXAMPLES):
        published = headers(text)
        decoded = RecordHeaders.from_kafka(published)
        assert decoded.to_kafka() == published, "as ingest writes them"
        assert outcome == outcome_of(seen, decoded, value.encode(), offset)


def outcome_of(seen: SequenceTracker, decoded: RecordHeaders, value: bytes, offset: int) -> str:
    """What a reader does with a message, in the words of the page."""
    duplicates = seen.duplicates
    record = seen.assemble(decoded, 0, value, offset)
    if record:
        seen.mark_processed(record.headers)
        joined = f' "{b"".join(record.value).decode()}", of offset {record.offset}'
        outcome = "record" + (joined if record.offset < offset else "")
    elif seen.duplicates > duplicates:
        outcome = "duplicate"
    else:
        outcome = "ignored" if decoded.operator else "chunk"
    for loss in seen.losses:
        outcome += f"; lost: {'unknown' if loss.records is None else loss.records} ({loss.cause})"
    seen.losses.clear()
    if (resume := seen.safe_offset(offset + 1)) <= offset:
        outcome += f"; resume at {resume}"
    return outcome


@pytest.mark.parametrize(("text", "why"), INVALID)
def test_our_reader_refuses_what_it_calls_invalid(text: str, why: str) -> None:
    with pytest.raises(ContractError, match=f"^{re.escape(why)}$"):
        RecordHeaders.from_kafka(headers(text))


def test_its_frame_is_one_by_spt3g_and_its_crc_is_computed_as_it_says() -> None:
    data = bytes.fromhex(blocks("hex"))
    assert data == frame(core.G3FrameType.Scan, frame_num=7)
    read = read_frame(data, {b"frame_num"})
    assert read
    assert integer(read.blobs[b"frame_num"]) == 7
    usual = google_crc32c.value(b"\xff" * 4 + b"frame_num" + read.blobs[b"frame_num"])
    assert int.from_bytes(data[-4:], "little") == usual ^ 0xFFFFFFFF


def test_its_digest_is_ours() -> None:
    [digest] = re.findall(r"^is +([0-9a-f]{64})$", blocks("digest"), re.MULTILINE)
    assert digest == record_digest(1_795_385_173_981, None, b"not a frame", [("source", b"test")])
