"""A file that is held back until its acquisition reaches --since keeps none of its bytes in memory."""

from contextlib import closing
from pathlib import Path

import pytest

from archiver.archive.archive_settings import initialize
from archiver.archive.location import Location
from archiver.archive.root import ArchiveRoot
from archiver.replay.plan import Selection
from archiver.replay.rebuilt import RebuiltFile, SelectedFiles
from archiver.replay.sinks import DirectoryTarget

STREAM = "crate1slot2"
FILES, FILE_BYTES = 20, 1 << 20


@pytest.mark.parametrize("is_there", [False, True])
def test_closed_files_that_are_held_back_are_not_buffered(tmp_path: Path, is_there: bool) -> None:
    archive = ArchiveRoot(initialize(Location(tmp_path / "data"), None), "archiver", "here")
    with closing(DirectoryTarget(archive, STREAM)) as target:
        selected = SelectedFiles(Selection(since_ms=1_000), target, [])
        buffered = 0
        selected.on_acquisition(0, 0)
        for number in range(FILES):
            path = f"15463/{STREAM}/2019-01-01-12-00-00_{number:03d}.g3"
            if is_there:
                (archive.location.data_dir / path).parent.mkdir(parents=True, exist_ok=True)
                (archive.location.data_dir / path).write_bytes(b"x")
            file = RebuiltFile(path, 0, target.begin(path, 0), None)
            file.append([bytes(FILE_BYTES)], 1, 0)
            selected.on_closed(file)
            buffered += sum(map(len, getattr(file.content, "_pending", ())))
        assert buffered < 2 * FILE_BYTES
        selected.on_acquisition_end()
