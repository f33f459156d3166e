"""The events on g3.files, and their JSON Schema."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec.structs import replace

from archiver.core.checkpoint import CheckpointError
from archiver.core.events import (
    KINDS,
    ArchiveFinalized,
    Event,
    FileAdopted,
    FileFinished,
    FileRetired,
    FileSalvaged,
    RecordsLost,
    UnknownEventError,
    decode,
    encode,
    key_prefixes,
    schema,
)
from archiver.core.paths import NameFormat
from archiver.core.segmentation import Settings
from tests.unit.archiver.core.test_catalog import FIRST, SALVAGED, adopted, finished, lost, retired
from tests.unit.archiver.core.test_checkpoint import AS_TYPES_ALLOW, largest

SCHEMA = Path(__file__).parents[4] / "docs" / "reference" / "g3.files.schema.json"
OTHERWISE = Settings(1, 1, NameFormat.CTIME, (87, 79, 83))
EVENTS = [
    pytest.param(finished(0), id="file"),
    pytest.param(finished(3, settings=OTHERWISE, carry=(79, 87), missing=7), id="file of other settings"),
    pytest.param(
        finished(0, stream="x" * 64, checkpoint=largest(AS_TYPES_ALLOW, NameFormat.DATE)),
        id="file, the largest state",
    ),
    pytest.param(finished(0, md5="0" * 32), id="file with its MD5"),
    pytest.param(lost(7, FIRST.time), id="loss"),
    pytest.param(lost(0, -1, records=None, since=None), id="loss of which little is known"),
    pytest.param(SALVAGED, id="salvaged"),
    pytest.param(retired(finished(0)), id="retired"),
    pytest.param(adopted(finished(0).path), id="adopted"),
]


FINALIZED = ArchiveFinalized("archiver", FIRST.time, None, "host")


@pytest.fixture
def validator() -> Any:
    return jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))


def test_the_committed_schema_is_that_of_the_classes(validator: Any) -> None:
    assert SCHEMA.read_text() == json.dumps(schema(), indent=1) + "\n", (
        "python -m archiver.core.events > docs/reference/g3.files.schema.json"
    )
    validator.check_schema(validator.schema)
    assert "\\Z" not in SCHEMA.read_text(), "other languages' patterns don't know it"


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_read_back_and_is_of_the_schema(event: Event, validator: Any) -> None:
    assert decode(encode(event)) == event
    validator.validate(json.loads(encode(event)))


def test_the_examples_in_the_documentation_are_events(validator: Any) -> None:
    examples = re.findall(r"```json\n(.*?)```", SCHEMA.with_name("g3.files.md").read_text(), re.DOTALL)
    finalized = [example for example in examples if json.loads(example)["event"] == "finalized"]
    assert len(finalized) == 1
    assert set(json.loads(finalized[0])) == set(msgspec.to_builtins(FINALIZED))
    validator.validate(json.loads(finalized[0]))
    examples.remove(finalized[0])
    decoded = [decode(example.encode()) for example in examples]
    assert {type(event) for event in decoded} == {FileFinished, RecordsLost, FileSalvaged, FileRetired, FileAdopted}
    assert {json.loads(example)["event"] for example in examples} == KINDS
    for example in examples:
        validator.validate(json.loads(example))
        assert set(json.loads(example)) == set(msgspec.to_builtins(decode(example.encode()))), "every field is shown"


def test_up_to_when_an_archive_is_final_is_an_event_of_the_schema_that_no_reader_of_ours_stops_at(
    validator: Any,
) -> None:
    value = encode(FINALIZED)
    validator.validate(json.loads(value))
    assert not any(FINALIZED.key.encode().startswith(prefix) for prefix in key_prefixes("archiver"))
    with pytest.raises(UnknownEventError):
        decode(value)


WRONG: list[tuple[str, object]] = [
    ("event", "other"),
    ("v", 2),
    ("path", "../../etc/passwd"),
    ("path", "15463/../x/1_000.g3"),
    ("path", "/15463/x/2019-01-01-12-00-00_000.g3"),
    ("stream", "a/b"),
    ("id", ".."),
    ("group", "a/b"),
    ("sha256", "0" * 63),
    ("sha256", "G" * 64),
    ("md5", "0" * 31),
    ("number", -1),
    ("start", 10**10),
    ("frames", 1.5),
    ("bytes", -1),
    ("why", "bored"),
    ("carry", [2**32]),
    ("first", None),
    ("settings", {"name_format": "iso"}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_is_no_event_is_refused_by_us_and_by_the_schema(name: str, value: object, validator: Any) -> None:
    """Kafka is untrusted input: the paths become files' names."""
    document = {**msgspec.to_builtins(finished(0)), name: value}
    with pytest.raises(CheckpointError):
        decode(json.dumps(document).encode())
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document)


@pytest.mark.parametrize("event", EVENTS)
def test_the_key_is_the_same_for_the_same_and_begins_as_those_of_the_stream(event: Event) -> None:
    assert decode(encode(event)).key == event.key
    for streams in ([], [event.stream], ["another", event.stream]):
        assert event.key.encode().startswith(key_prefixes(event.group, streams))
    for group, streams in ((event.group, ["another"]), ("another", []), (event.group[:-1], [])):
        assert not event.key.encode().startswith(key_prefixes(group, streams))
    assert replace(event, host="another").key == event.key, "published again by the archiver that continued"


def test_a_command_s_event_has_a_key_of_its_own_that_older_versions_take_for_another_archive_s() -> None:
    """They read the group before the first slash, and stop at events of their own archive that they don't know."""
    file = finished(0)
    keys = [file.key, retired(file).key, adopted(file.path).key]
    assert len(set(keys)) == 3
    for key in keys[1:]:
        group, _, _ = key.partition("/")
        with pytest.raises(CheckpointError):
            encode(replace(file, group=group))  # no archive has that name


def test_a_kind_that_only_a_later_version_knows_is_distinguished_from_what_is_no_event() -> None:
    with pytest.raises(UnknownEventError, match="unknown kind: file_moved"):
        decode(b'{"event":"file_moved","v":1}')
    for value in (
        b"",
        b"{}",
        b"[]",
        b'{"event":7}',
        b'{"event":""}',
        b'{"event":"\\u001b[2J"}',
        b'{"event":"file","v":2}',
        b"\xff",
        b"[" * 100_000,
    ):
        with pytest.raises(CheckpointError) as caught:
            decode(value)
        assert not isinstance(caught.value, UnknownEventError)


@pytest.mark.parametrize("name", ["9999-99-99-99-99-99_000", "------_000", "99999999999999999999999-_000"])
@pytest.mark.parametrize("event", [finished(0), SALVAGED, retired(finished(0)), adopted(finished(0).path)])
def test_a_path_that_says_no_time_is_refused(
    event: FileFinished | FileSalvaged | FileRetired | FileAdopted, name: str
) -> None:
    with pytest.raises(CheckpointError, match="is no file's path"):
        decode(encode(replace(event, path=f"15463/{event.stream}/{name}.g3")))
