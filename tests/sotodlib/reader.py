"""What Simons Observatory's own software makes of an archive: a script for the Python of testbed/sotodlib_venv.py.

    reader.py index|update DIRECTORY    # of which `timestreams` is the archive; prints a JSON object
    reader.py transfer DIRECTORY NODE
    reader.py timecodes DIRECTORY       # index_timecodes alone: for each the stream, the timecode and the agent

index: one pass of G3tSmurf over tunes, files and timecodes. update: all that sotodlib's update_g3tsmurf_db does, as
the observatory runs every few minutes. Their database lies in DIRECTORY. transfer: what suprsync does with the files
in DIRECTORY/suprsync.db: each is copied to the other directory, and its day is finalized.
"""

import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from socs.db.suprsync import SupRsyncFilesManager, TimecodeDir
from socs.util import get_md5sum
from sotodlib.io.bookbinder import SmurfStreamProcessor
from sotodlib.io.load_smurf import Files, G3tSmurf, Observations, SmurfStatus, TimeCodes, load_file
from sotodlib.site_pipeline.update_g3tsmurf_db import main as update_g3tsmurf_db
from spt3g import core

_TUNED_BAND = 0


class _Warnings(logging.Handler):
    """What sotodlib warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def configure(directory: Path) -> str:
    """sotodlib's own configuration of such a site, in a file."""
    path = directory / "g3tsmurf.yaml"
    content = {
        "data_prefix": str(directory),
        "g3tsmurf_db": str(directory / "g3tsmurf.db"),
        "g3thk_db": str(directory / "g3hk.db"),
        "finalization": {"servers": [{"smurf-suprsync": "smurf-sync", "timestream-suprsync": "timestream-sync"}]},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def write_tunes(directory: Path) -> None:
    """The tunes that the files' Wiring frames name, as pysmurf writes them: sotodlib looks for them in `smurf`."""
    (directory / "smurf").mkdir(exist_ok=True)
    for path in sorted((directory / "timestreams").glob("1*/*/*.g3")):
        status = SmurfStatus.from_file(str(path))
        if not status.tune:
            continue
        ctime = status.tune.split("_")[0]
        outputs = directory / "smurf" / ctime[:5] / status.stream_id / f"{ctime}_uxm_setup" / "outputs"
        outputs.mkdir(parents=True, exist_ok=True)
        assigned = outputs / f"{ctime}_channel_assignment_b{_TUNED_BAND}.txt"
        frequencies = np.linspace(4000, 4500, 64, endpoint=False)
        rows = [(frequency, 0, channel, -1) for channel, frequency in enumerate(frequencies)]
        np.savetxt(assigned, rows, fmt="%.4f,%d,%d,%d")
        tune = {_TUNED_BAND: {"resonances": {}, "channel_assignment": str(assigned)}}
        np.save(outputs / status.tune, tune, allow_pickle=True)  # type: ignore[arg-type]  # as pysmurf does


def report(archive: Any, directory: Path) -> dict[str, Any]:
    """What the database knows now, and what is missing in it."""
    root = directory / "timestreams"
    with archive.Session() as session:
        observations = [_observation(found, root) for found in session.query(Observations).all()]
        files = sorted(str(Path(found.name).relative_to(root)) for found in session.query(Files).all())
        timecodes = [[found.stream_id, found.timecode] for found in session.query(TimeCodes).all()]
    days = {path.parts[0] for path in map(Path, files)}
    missing = [path for day in sorted(days) for path in archive.find_missing_files(day)]
    unobserved = [path for day in sorted(days) for path in archive.find_missing_files_from_obs(day)]
    return {
        "observations": sorted(observations, key=lambda found: str(found["id"])),
        "files": files,
        "missing": [str(Path(path).relative_to(root)) for path in missing],
        "unobserved": [str(Path(path).relative_to(root)) for path in unobserved],
        "timecodes": timecodes,
    }


def _observation(found: Any, root: Path) -> dict[str, Any]:
    names = sorted(member.name for member in found.files)
    data = load_file(names, show_pb=False)
    booked, gaps = _bound(found.obs_id, names, int(data.signal.shape[0]))
    return {
        "id": found.obs_id,
        "ended": found.stop is not None,
        "samples": found.n_samples,
        "timing": found.timing and bool(found.timing),
        "tag": found.tag,
        "tunesets": len(found.tunesets),
        "files": [str(Path(name).relative_to(root)) for name in names],
        # What is read from the files themselves: FrameCounter counts a session's samples.
        "channels": int(data.signal.shape[0]),
        "counted": [int(data.primary.FrameCounter[0]), int(data.primary.FrameCounter[-1]) + 1],
        "steps": sorted({int(step) for step in np.diff(data.primary.FrameCounter)}),
        "steps_ms": sorted({round(float(step), 3) for step in 1000 * np.diff(data.timestamps)}),
        "booked": booked,
        "gaps": gaps,
    }


def _bound(name: str, files: list[str], channels: int) -> tuple[int, int]:
    """How many samples are in the book that bookbinder makes of an observation, and how many of them it made up."""
    # In the order of the names; its timing counters must go on from file to file.
    stream = SmurfStreamProcessor(name, files, "book", readout_ids=[f"r{number:04}" for number in range(channels)])
    stream.preprocess()
    with tempfile.TemporaryDirectory() as directory:
        stream.bind(directory, stream.times, stream.frame_idxs, np.zeros(stream.nframes, int))
        frames = [frame for path in stream.out_files for frame in core.G3File(path)]
    scans = [frame for frame in frames if frame.type == core.G3FrameType.Scan]
    return sum(len(scan["signal"].times) for scan in scans), sum(sum(scan["flag_smurfgaps"]) for scan in scans)


def transfer(directory: Path, node: Path) -> dict[str, Any]:
    """Copy what is registered, and finalize; gives what the finalization's file says."""
    manager = SupRsyncFilesManager(str(directory / "suprsync.db"))
    _copy(manager, node)
    with manager.Session.begin() as session:
        # A day is complete when files of a later one are there.
        day = max(found.timecode for found in session.query(TimecodeDir).all())
        session.add(TimecodeDir(timecode=day + 1, archive_name="timestreams"))
    manager.update_all_timecode_dirs("timestreams", str(directory / "suprsync"), "timestream-sync")
    _copy(manager, node)
    [summary] = node.rglob("*_finalized.yaml")
    found: dict[str, Any] = yaml.safe_load(summary.read_text())
    return found


def timecodes(directory: Path) -> list[tuple[str, int, str]]:
    """Those that are complete, as sotodlib finds it in the archive itself."""
    (directory / "smurf").mkdir(exist_ok=True)
    archive = G3tSmurf.from_configs(configure(directory), make_db=True)
    archive.index_timecodes()
    with archive.Session() as session:
        return [(found.stream_id, found.timecode, found.agent) for found in session.query(TimeCodes).all()]


def _copy(manager: Any, node: Path) -> None:
    """What its handler has rsync do."""
    with manager.Session.begin() as session:
        for file in manager.get_copyable_files("timestreams", session=session):
            path = node / "timestreams" / file.remote_path
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.local_path, path)
            file.remote_md5sum = get_md5sum(str(path))


def main() -> None:
    """Do what is asked, and print the report."""
    with os.fdopen(os.dup(1), "w") as stdout:
        os.dup2(2, 1)  # bookbinder logs to stdout
        json.dump(_answer(sys.argv[1], *map(Path, sys.argv[2:])), stdout)


def _answer(what: str, directory: Path, node: Path | None = None) -> Any:
    if node:
        return transfer(directory, node)
    if what == "timecodes":
        return timecodes(directory)
    warnings = _Warnings()
    logging.getLogger("sotodlib").addHandler(warnings)
    config = configure(directory)
    write_tunes(directory)
    error = None
    if what == "update":
        try:
            update_g3tsmurf_db(config=config, from_scratch=True, verbosity=0)
        except ValueError as why:
            error = str(why)
        archive = G3tSmurf.from_configs(config)
    else:
        archive = G3tSmurf.from_configs(config, make_db=True)
        archive.index_metadata()
        archive.index_archive(show_pb=False)
        try:
            archive.index_timecodes()
        except ValueError as why:
            error = str(why)
    return {**report(archive, directory), "error": error, "warnings": warnings.said}


if __name__ == "__main__":
    main()
