"""An unexpected error of one stream: that stream stops, reports it, and is tried again; the others continue."""

import pytest

from testbed.child_process import free_port
from tests.support.archives import Source, assert_same_tree, disturbed, left_behind
from tests.support.processes import Recorder, eventually, get

FAILING = {
    "while-it-is-written": r"pwritev .*{stream}",
    "while-it-is-made-durable": r"fdatasync .*{stream}",
    "while-a-loss-is-published": r"produce g3\.files .*{stream}/loss/",
    "while-its-file-is-finished": r"link .*{stream}.*\.g3$",
    "while-it-is-committed": r"fsync .*\.archiver/{stream}$",
}


@pytest.mark.slow
def test_the_others_go_on_and_it_is_tried_again(recorder: Recorder) -> None:
    # All at the same time, as most of it is waiting.
    failing = Source(recorder.servers, recorder.stream)
    well = Source(recorder.servers, f"{recorder.stream[-8:]}-well")
    for stream in (failing.stream, well.stream):
        recorder.create_topic(stream)
    for source in (failing, well):
        source.start()
        source.scans(30, 20_000)
        source.lose(2)
        source.scans(30, 20_000)
        source.end()
    both = ("--stream", well.stream)
    undisturbed = recorder.archiver(*both, archive="undisturbed")
    archivers = {
        what: disturbed(recorder, ["TypeError", "before", call.format(stream=failing.stream)], *both, archive=what)
        for what, call in FAILING.items()
    }
    for archiver in archivers.values():
        archiver.may_fail = True
    for source in (failing, well):
        undisturbed.await_line(rf"{source.stream}: finished .* \(end\)")
    why = "by an error of this program, see the log: TypeError: an unexpected error; trying again in 5 s"
    for what, archiver in archivers.items():
        archiver.await_line(rf"{well.stream}: finished .* \(end\)")
        archiver.await_line(f"{failing.stream}: STOPPED {why}")
        assert "Traceback" in archiver.log, what
        archiver.await_line(rf"{failing.stream}: finished .* \(end\)")
        assert_same_tree(recorder.tree(what), recorder.tree("undisturbed"))
        assert archiver.stop() == 0, what
        assert left_behind(recorder, what) == [], what


def test_health_says_so_meanwhile(recorder: Recorder) -> None:
    recorder.create_topic()
    source = Source(recorder.servers, recorder.stream)
    port = free_port()
    fails_twice = ["TypeError", "before", "pwritev ", "--times", "2"]
    archiver = disturbed(recorder, fails_twice, "--http", str(port), archive="archive")
    archiver.may_fail = True
    source.start()
    source.scans(10)
    archiver.await_line(f"{source.stream}: STOPPED")
    code, text = get(port, "/healthz")
    assert code == 503
    assert text.startswith(f"{source.stream}: stopped by an error of this program")
    eventually(lambda: get(port, "/healthz") == (200, "ok\n"), "it is recorded again")
    source.end()
    archiver.await_line(rf"{source.stream}: finished .* \(end\)")
    assert archiver.stop() == 0
