"""A topic with thousands of gaps: all are reported, in few events, and recording continues meanwhile."""

import json

import pytest

from g3stream.contract.topics import FILES_TOPIC
from testbed.child_process import free_port
from tests.support.archives import Source, all_committed, disturbed, published_events
from tests.support.processes import Recorder, eventually, get, run_archiver

HOLES = 5000
ROTATING = ("--time-per-file", "30")


def full_of_holes(recorder: Recorder) -> Source:
    """Two acquisitions of 50 s: after each second frame one is missing."""
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    for _ in range(2):
        source.start()
        for _ in range(HOLES // 2):
            source.lose(1)
            source.scans(2, every=10)
        source.end()
        source.now += 1000
    return source


def counted(recorder: Recorder, archive: str) -> tuple[int, int, int]:
    """Of the last event of each key: how many there are, of how many losses, of how many records."""
    last = {key: event for key, event in published_events(recorder, archive) if event["event"] == "loss"}
    return len(last), sum(e["times"] for e in last.values()), sum(e["records"] for e in last.values())


@pytest.mark.slow
def test_thousands_of_holes_are_few_events(recorder: Recorder) -> None:
    source = full_of_holes(recorder)
    port = free_port()
    archiver = recorder.archiver(*ROTATING, "--http", str(port))
    eventually(lambda: all_committed(recorder, [source]), "all committed")
    metrics = get(port, "/metrics")[1]
    assert archiver.stop() == 0
    events, losses, records = counted(recorder, "archive")
    print(f"{events} events of {losses} losses")
    assert (losses, records) == (HOLES, HOLES)
    assert events < HOLES / 50
    labels = f'cause="missing",stream="{recorder.stream}"'
    assert f"g3_archiver_losses_total{{{labels}}} {HOLES}" in metrics
    assert f"g3_archiver_lost_records_total{{{labels}}} {HOLES}" in metrics

    verified = recorder.command("verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    group = ("--group", f"{recorder.stream}.archive", "--stream", recorder.stream)
    listed = run_archiver(recorder.servers, "files", "--json", *group)
    assert listed.returncode == 0
    entries = [json.loads(line) for line in listed.stdout.splitlines()]
    files = [file for entry in entries if entry["kind"] == "acquisition" for file in entry["files"]]
    assert {entry["kind"] for entry in entries} == {"acquisition"}
    assert sum(loss["times"] for file in files for loss in file["losses"]) == HOLES
    for file in files:
        for loss in file["losses"]:
            assert file["first_frame"] <= loss["until"]


@pytest.mark.slow
def test_each_hole_counts_once_though_the_archiver_is_killed(recorder: Recorder) -> None:
    """Three times, after losses were published and before that was committed."""
    source = full_of_holes(recorder)
    for nth in (1, 2, 1):
        killed = disturbed(
            recorder,
            ["kill", "after", f"produce {FILES_TOPIC} .*/loss/", "--nth", str(nth)],
            *ROTATING,
            archive="killed",
        )
        killed.may_fail = True
        killed.exit_code()
    archiver = recorder.archiver(*ROTATING, archive="killed")
    eventually(lambda: all_committed(recorder, [source], "killed"), "all committed")
    assert archiver.stop() == 0
    events, losses, records = counted(recorder, "killed")
    assert (losses, records) == (HOLES, HOLES)
    assert events < HOLES / 50
