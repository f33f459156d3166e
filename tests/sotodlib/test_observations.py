"""What is recorded is found and read by sotodlib: observations that have ended, with all their samples, none foreign.

The frames are made by so3g, as SMuRF's streamer makes them, and sent by a real G3NetworkSender.
"""

from pathlib import Path

import pytest
from spt3g import core

from testbed.smurf.simulator import Simulator
from tests.sotodlib.analysis import ARCHIVE, PARTIAL, STREAM_ID, Analysis, Session, ended, finished_sessions, names
from tests.support.processes import Recorder, eventually

OBSERVATORY = ("--name-format", "session", "--carry", "Observation", "--carry", "Wiring")
"""What docs/operate/simons-observatory.md says that such a site sets, of what says how files are named."""


_DOCS = Path(__file__).parents[2] / "docs" / "operate" / "simons-observatory.md"


def test_the_docs_say_what_is_shown_here() -> None:
    words = _DOCS.read_text().replace("\\\n", " ").split()
    assert " ".join(OBSERVATORY) in " ".join(words)
    assert "--private-dir /data/timestreams.private --checksums private" in " ".join(words)


@pytest.fixture
def clean(recorder: Recorder) -> tuple[str, ...]:
    """What it sets so that nothing lies beside the files."""
    return ("--private-dir", str(recorder.directory / "private"), "--checksums", "private")


def recorded(recorder: Recorder) -> list[str]:
    """The files of the archive."""
    return [str(path.relative_to(recorder.data(ARCHIVE))) for path in recorder.files(ARCHIVE)]


def types_of(path: Path) -> list[str]:
    """The types of a file's frames."""
    return [str(frame.type) for frame in core.G3File(str(path))]


def test_a_session_through_many_faults_is_one_ended_observation(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...], tmp_path: Path
) -> None:
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        ingest = recorder.ingest(simulator.port)
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, archive=ARCHIVE)
        session = Session(simulator)
        session.command("wait", "start", "frames 10 --rate 5", "drop")
        session.command("wait", "frames 10 --rate 5").published(recorder)
        ingest.kill()
        recorder.ingest(simulator.port)
        session.command("wait", "frames 6 --rate 5")
        simulator.send("frames 10 --rate 5")
        archiver.kill()
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, archive=ARCHIVE)
        session.count(simulator.answer())
        session.command("end")
        finished_sessions(archiver)

    found = analysis.index(recorder.directory)
    files = names(session.id, len(recorded(recorder)))
    assert len(files) >= 4  # cut by two lost connections, and by time
    assert found["observations"] == [ended(session, files)]
    assert (found["files"], found["missing"], found["unobserved"]) == (files, [], [])
    assert (found["error"], found["warnings"]) == (None, [])

    rebuilt = tmp_path / "rebuilt"
    into = ("--private-dir", str(tmp_path / "rebuilt-private"), "--checksums", "private")
    done = recorder.command("replay", *into, archive=ARCHIVE, into=rebuilt / ARCHIVE)
    assert done.returncode == 0
    assert recorder.command("verify", *clean[:2], archive=ARCHIVE).returncode == 0
    again = analysis.update(rebuilt)
    assert again == {**found, "warnings": again["warnings"]}
    assert [(rebuilt / ARCHIVE / name).read_bytes() for name in files] == [
        path.read_bytes() for path in recorder.files(ARCHIVE)
    ]


def test_the_files_pass_through_suprsync(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...], tmp_path: Path
) -> None:
    """The archiver registers them (docs/operate/suprsync.md); of the copies on the other side all is as in it."""
    pytest.importorskip("socs", reason="the package socs isn't installed: pip install '.[socs]'")
    from tests.socs.transfer import rows

    recorder.create_topic()
    db = recorder.directory / "suprsync.db"
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        recorder.ingest(simulator.port)
        hand_over = ("--suprsync-db", str(db), "--instance-id", "archiver-so1")
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, *hand_over, archive=ARCHIVE)
        session = Session(simulator).command("wait", "start", "frames 10 --rate 5", "end")
        finished_sessions(archiver)
        files = names(session.id, len(recorded(recorder)))
        eventually(lambda: len(rows(db)) == len(files), "all files are registered")

    node = tmp_path / "node"
    summary = analysis.transfer(recorder.directory, node)
    timecode = session.id // 100_000
    assert summary["timecode"] == timecode
    assert summary["subdirs"] == [STREAM_ID]
    assert summary["num_files"] == len(files)

    found = analysis.update(node)
    assert found["observations"] == [ended(session, files)]
    assert (found["missing"], found["unobserved"], found["error"]) == ([], [], None)
    assert found["timecodes"] == [[STREAM_ID, timecode]]


def test_a_session_without_an_end_takes_nothing_from_the_next(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...]
) -> None:
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        recorder.ingest(simulator.port)
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, archive=ARCHIVE)
        first = Session(simulator).command("wait", "start", "frames 8 --rate 5")
        second = Session(simulator).command("start", "frames 8 --rate 5", "end")
        finished_sessions(archiver)

    found = analysis.update(recorder.directory)
    one, two = found["observations"]
    of_first = [name for name in recorded(recorder) if str(first.id) in name]
    of_second = [name for name in recorded(recorder) if str(second.id) in name]
    assert (of_first, of_second) == (names(first.id, len(of_first)), names(second.id, len(of_second)))
    # sotodlib waits for its end, as it does with today's recorder; what there is can be read, and bound.
    assert one == {**ended(first, of_first), "ended": False, "samples": None, "timing": None}
    assert two == ended(second, of_second)
    assert (found["missing"], found["unobserved"], found["error"]) == ([], [], None)


def test_a_session_that_began_before_ingest_was_connected(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...]
) -> None:
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        session = Session(simulator).command("start", "frames 10 --rate 5")
        missed = session.samples  # nobody was connected
        recorder.ingest(simulator.port)
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, archive=ARCHIVE)
        session.command("wait", "frames 10 --rate 5", "end")
        finished_sessions(archiver)

    found = analysis.index(recorder.directory)
    files = names(session.id, len(recorded(recorder)))
    assert found["observations"] == [ended(session, files, missed)]
    assert (found["files"], found["missing"], found["unobserved"]) == (files, [], [])


def test_a_sender_that_sends_an_ended_session_again(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...]
) -> None:
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        ingest = recorder.ingest(simulator.port)
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, archive=ARCHIVE)
        first = Session(simulator).command("wait", "start", "frames 8 --rate 5", "end")
        finished_sessions(archiver)
        before = recorded(recorder)
        ingest.kill()
        recorder.ingest(simulator.port)
        first.command("wait")

        def again() -> bool:
            seen = [label.num for label, _, _ in recorder.records() if label.session == first.id]
            return len(seen) > len(set(seen)) + 1  # Observation and Wiring

        eventually(again, "the sender's latest frames came once more")
        # The log is read in order: when the next session is recorded, those frames have been dealt with.
        second = Session(simulator).command("start", "frames 8 --rate 5", "end")
        finished_sessions(archiver, 2)

    found = analysis.index(recorder.directory)
    after = [name for name in recorded(recorder) if str(second.id) in name]
    assert recorded(recorder) == before + after
    assert found["observations"] == [ended(first, before), ended(second, names(second.id, len(after)))]
    assert (found["files"], found["missing"], found["unobserved"]) == (before + after, [], [])


@pytest.mark.parametrize("how", ["after a rotation", "with the next connection"])
def test_a_session_whose_end_is_alone_in_its_last_file(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...], how: str
) -> None:
    """sotodlib takes a file without Scan frames to begin with its first frame, and looks for END in the last file."""
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        ingest = recorder.ingest(simulator.port)
        archiver = recorder.archiver(*OBSERVATORY, *clean, *PARTIAL, archive=ARCHIVE)
        first = Session(simulator).command("wait", "start", "frames 22 --rate 5")
        if how == "after a rotation":
            first.command("silence 1.5", "end")
        else:
            first.published(recorder)
            ingest.kill()
            # Nobody is connected; the sender keeps its latest Observation and Wiring for the next connection.
            first.command("end")
            recorder.ingest(simulator.port)
            first.command("wait")
        second = Session(simulator).command("start", "frames 3 --rate 5", "end")
        archiver.await_line(rf"finished \S+{second.id}_\S+ \(end\)")

    of_first = [name for name in recorded(recorder) if str(first.id) in name]
    assert of_first == names(first.id, len(of_first))
    assert len(of_first) >= 5
    assert "Scan" not in types_of(recorder.data(ARCHIVE) / of_first[-1])
    found = analysis.index(recorder.directory)
    assert found["unobserved"] == of_first[-1:]
    found = analysis.update(recorder.directory)
    assert found["observations"] == [ended(first, of_first), ended(second, names(second.id, 1))]
    assert (found["missing"], found["unobserved"]) == ([], [])


@pytest.mark.parametrize("carry", ["Observation only", "the newest Wiring, which is a change"])
def test_what_a_pass_leaves_open_the_update_completes(
    recorder: Recorder, analysis: Analysis, clean: tuple[str, ...], carry: str
) -> None:
    """A file without SMuRF's whole status doesn't say to sotodlib what is observed; its update asks for names."""
    recorder.create_topic()
    settings = ("--name-format", "session") if carry == "Observation only" else OBSERVATORY
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        recorder.ingest(simulator.port)
        archiver = recorder.archiver(*settings, *clean, *PARTIAL, archive=ARCHIVE)
        session = Session(simulator).command("wait", "start", "frames 3 --rate 5")
        session.command("wiring --change", "frames 10 --rate 5", "end")
        finished_sessions(archiver)

    files = names(session.id, len(recorded(recorder)))
    assert len(files) >= 2
    found = analysis.index(recorder.directory)
    [observation] = found["observations"]
    assert not observation["ended"]
    assert found["unobserved"] == files[1:]

    found = analysis.update(recorder.directory)
    assert found["observations"] == [ended(session, files)]
    assert (found["missing"], found["unobserved"], found["error"]) == ([], [], None)


def test_why_not_the_default_names(recorder: Recorder, analysis: Analysis) -> None:
    """Kept as the reason of what the tests above set: should sotodlib come to find these, the docs are to say so."""
    recorder.create_topic()
    with Simulator(realistic=True, stream_id=STREAM_ID) as simulator:
        recorder.ingest(simulator.port)
        archiver = recorder.archiver(archive=ARCHIVE)
        Session(simulator).command("wait", "start", "frames 3 --rate 5", "end")
        finished_sessions(archiver)

    found = analysis.index(recorder.directory)
    [file] = recorded(recorder)
    assert found["observations"] == []
    assert found["unobserved"] == [file]
    assert found["missing"] == [str(Path(file).with_name("SHA256SUMS"))]
    assert "'.archiver'" in found["error"]
