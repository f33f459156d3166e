"""An archive's identity is created once, whichever archiver is first, and read back as it was."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from archiver.archive import identity
from archiver.archive.identity import Identity, parse
from archiver.archive.location import Location


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".archiver").mkdir()
    return tmp_path


def written(root: Path, text: str) -> Path:
    """As an operator may write it."""
    path = root / ".archiver" / "archive.identity"
    path.write_text(text)
    return path


@pytest.mark.usefixtures("links")
def test_it_is_made_once_and_nothing_else_is_left(root: Path) -> None:
    assert identity.read(Location(root)) is None
    made = identity.create(Location(root), "archiver")
    assert identity.read(Location(root)) == identity.create(Location(root), "another") == made
    assert made.group == "archiver"
    assert [path.name for path in (root / ".archiver").iterdir()] == ["archive.identity"]


@pytest.mark.usefixtures("links")
def test_all_that_start_at_once_agree(root: Path) -> None:
    barrier = Barrier(8)

    def start(n: int) -> Identity:
        barrier.wait()
        return identity.create(Location(root), f"group{n}")

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(start, range(8)))
    assert found == {identity.read(Location(root))}


A, B = "0123456789abcdef", "fedcba9876543210"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{A} archiver\n", Identity((A,), "archiver")),
        (f"{A} archiver\n{B} archiver\n\n", Identity((A, B), "archiver")),
        (f"  {A} archiver", Identity((A,), "archiver")),
        ("", None),
        ("\0" * 26, None),
        (f"{A}\n", None),
        (f"{A} archiver\n{B} another\n", None),
        (f"{A} archiver\nnot an id\n", None),
        (f"{A.upper()} archiver\n", None),
        (f"{A} ../../etc\n", None),
    ],
)
def test_what_it_says(text: str, expected: Identity | None) -> None:
    assert parse(text) == expected


def test_one_that_cannot_be_understood_is_never_replaced(root: Path) -> None:
    path = written(root, "damaged")
    with pytest.raises(OSError, match="can't be understood") as refused:
        identity.read(Location(root))
    assert str(path) in str(refused.value)
    with pytest.raises(OSError, match="can't be understood"):
        identity.create(Location(root), "archiver")
    assert path.read_text() == "damaged"


def test_a_link_in_its_place_is_not_followed(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{A} archiver\n")
    (root / ".archiver" / "archive.identity").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="isn't a regular file"):
        identity.read(Location(root))


def test_what_is_no_file_is_named_with_what_to_do(root: Path) -> None:
    (root / ".archiver" / "archive.identity").mkdir()
    with pytest.raises(
        OSError,
        match=rf"{root}/.archiver/archive.identity can't .*: it isn't a regular file. .* move it away",
    ):
        identity.read(Location(root))
