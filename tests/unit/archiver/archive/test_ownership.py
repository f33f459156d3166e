"""Whether a directory is a group's archive, according to its commits: pure."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from archiver.archive.identity import Identity
from archiver.archive.location import Location
from archiver.archive.ownership import AnotherArchiveError, check_group, check_identity
from archiver.archive.root import ArchiveRoot
from archiver.core.checkpoint import ArchiveMark, Checkpoint, where
from archiver.core.segmentation import State

OURS, THEIRS = "0123456789abcdef", "fedcba9876543210"
ARCHIVE = ArchiveRoot(Location(Path("/data")), "archiver", "host")
OWN = Identity((OURS,), "archiver")
THERE = "daq1:/data/night"


def state(stream: str, archive_id: str | None = None, files: int = 3) -> Checkpoint:
    """What is committed of a stream."""
    return Checkpoint(State(stream), files=files, archive=ArchiveMark(archive_id, THERE) if archive_id else None)


def states(*found: Checkpoint) -> Mapping[str, Checkpoint]:
    return {it.state.stream: it for it in found}


@pytest.mark.parametrize(
    ("own", "known", "here"),
    [
        pytest.param(None, states(), False, id="nothing is committed yet"),
        pytest.param(None, states(state("a", files=0)), False, id="nothing is recorded yet"),
        pytest.param(None, states(state("a"), state("b")), True, id="upgraded in place"),
        pytest.param(OWN, states(state("a", OURS), state("b", OURS)), True, id="restarted"),
        pytest.param(OWN, states(state("a", OURS), state("b")), True, id="upgraded beside an older member"),
        pytest.param(Identity((OURS, THEIRS), "archiver"), states(state("a", THEIRS)), True, id="merged by hand"),
    ],
)
def test_it_is_the_groups_archive(own: Identity | None, known: Mapping[str, Checkpoint], here: bool) -> None:
    check_identity(ARCHIVE, own, known, here=here)


@pytest.mark.parametrize(
    ("own", "known"),
    [
        pytest.param(None, states(state("a", THEIRS)), id="an empty directory"),
        pytest.param(None, states(state("a"), state("b", THEIRS)), id="an older archive, and theirs"),
        pytest.param(OWN, states(state("a", THEIRS)), id="another archive"),
        pytest.param(OWN, states(state("a", OURS), state("b", THEIRS)), id="split already"),
    ],
)
@pytest.mark.parametrize("here", [False, True])
def test_another_archive_is_refused_with_where_it_is_and_ways_out(
    own: Identity | None, known: Mapping[str, Checkpoint], here: bool
) -> None:
    with pytest.raises(AnotherArchiveError) as refused:
        check_identity(ARCHIVE, own, known, here=here)
    text = "\n".join(refused.value.lines)
    assert f"{THEIRS} at {THERE}: " in text
    assert f"echo {THEIRS} archiver >> /data/.archiver/archive.identity" in text
    assert "another --group" in text
    assert "host:/data" in text
    assert max(map(len, refused.value.lines)) <= 100
    assert refused.value.lines[-1] == "nothing was recorded: /data isn't the archive of the group archiver"


def test_an_empty_directory_is_not_what_an_older_archive_recorded_to() -> None:
    with pytest.raises(AnotherArchiveError) as refused:
        check_identity(ARCHIVE, None, states(state("a")), here=False)
    assert "has recorded before, but not to this directory" in refused.value.lines[0]


def test_another_groups_directory_is_refused() -> None:
    check_group(ARCHIVE, None)
    check_group(ARCHIVE, OWN)
    with pytest.raises(AnotherArchiveError, match="the archive of the group second") as refused:
        check_group(ARCHIVE, Identity((OURS,), "second"))
    assert "use --group second, or another --data-dir" in refused.value.lines


def test_where_an_archive_is_can_be_printed_and_is_never_long() -> None:
    assert where("daq1", Path("/data")) == "daq1:/data"
    assert where("daq1", Path("/d\xe4\n\x1b\udcff")) == r"daq1:/d\xe4\n\x1b\udcff"
    assert len(where("daq1", Path("/" + "x" * 5000))) == 160


ELSEWHERE = ArchiveRoot(Location(Path("/data"), Path("/private")), "archiver", "host")


def test_a_private_directory_that_was_forgotten_is_named() -> None:
    mark = ArchiveMark(OURS, where("daq1", Path("/data"), Path("/private")))
    with pytest.raises(AnotherArchiveError) as refused:
        check_identity(ARCHIVE, None, states(Checkpoint(State("a"), files=1, archive=mark)), here=False)
    assert refused.value.forgotten
    assert "  --private-dir /private" in refused.value.lines


@pytest.mark.parametrize(
    ("archive", "was"),
    [
        pytest.param(ELSEWHERE, where("daq1", Path("/data"), Path("/private")), id="what was in it is gone"),
        pytest.param(ARCHIVE, where("daq1", Path("/data"), Path("/private" * 30)), id="too long to be noted"),
        pytest.param(ARCHIVE, where("daq1", Path("/dat"), Path("/private")), id="of another data directory"),
    ],
)
def test_what_may_not_be_right_is_not_advised(archive: ArchiveRoot, was: str) -> None:
    with pytest.raises(AnotherArchiveError) as refused:
        check_identity(
            archive, None, states(Checkpoint(State("a"), files=1, archive=ArchiveMark(OURS, was))), here=False
        )
    assert not refused.value.forgotten
    assert f"  echo {OURS} archiver >> {archive.location.private_path}/archive.identity" in refused.value.lines
