"""g3.files takes no events, and all else of Kafka works: only a stream with an event to publish waits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from g3stream.contract.topics import FILES_TOPIC
from testbed.child_process import free_port
from tests.support.archives import Gate, Source, all_committed, disturbed, published_events
from tests.support.injection.proxy import FarBroker
from tests.support.processes import Program, Recorder, alter_topic, eventually, get


@dataclass(frozen=True, slots=True)
class Site:
    """Two streams of one archiver, both recorded; the first loses records, and g3.files doesn't take that.

    take: let it take it again. port: where the archiver says how it is.
    """

    recorder: Recorder
    archiver: Program
    loses: Source
    other: Source
    take: Callable[[], None]
    port: int

    def assert_committed(self, source: Source) -> None:
        """Wait until all that this has sent is committed."""
        eventually(lambda: all_committed(self.recorder, [source]), f"all committed of {source.stream}")


def set_most_bytes(servers: str, most: int) -> None:
    """How large an event on g3.files may be."""
    alter_topic(servers, FILES_TOPIC, {"max.message.bytes": str(most)})


@pytest.fixture(params=["it refuses", "it says nothing"])
def site(stream: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    with FarBroker(tmp_path / "kafka") as broker, Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        servers, port, gate = recorder.servers, free_port(), Gate(tmp_path)
        loses, other = sources = [Source(servers, stream), Source(servers, f"{stream}-2")]
        for source in sources:
            recorder.create_topic(source.stream)
            source.start()
        flags = ["--stream", other.stream, "--http", str(port)]
        if request.param == "it refuses":
            archiver = recorder.archiver(*flags)
        else:
            archiver = disturbed(recorder, gate.at(f"produce {FILES_TOPIC} .*/loss/"), *flags, archive="archive")
        eventually(lambda: all_committed(recorder, sources), "all committed")
        if request.param == "it refuses":
            set_most_bytes(servers, 1)
        take = partial(set_most_bytes, servers, 1_000_000) if request.param == "it refuses" else gate.open
        loses.lose(5)
        loses.scans(20)
        archiver.await_line("LOST")
        if request.param == "it says nothing":
            archiver.await_line("^stopped_at: hold")
        yield Site(recorder, archiver, loses, other, take, port)
        assert archiver.stop() == 0


@pytest.mark.slow
def test_only_the_stream_with_the_loss_waits(site: Site) -> None:
    for _ in range(3):
        site.other.scans(20)
        site.assert_committed(site.other)
    assert not all_committed(site.recorder, [site.loses])
    site.take()
    site.assert_committed(site.loses)
    assert [value["records"] for _, value in published_events(site.recorder) if value["event"] == "loss"] == [5]
    eventually(lambda: get(site.port, "/healthz") == (200, "ok\n"), "all is well")


@pytest.mark.slow
@pytest.mark.parametrize("site", ["it refuses"], indirect=True)
def test_an_operator_is_told_why_it_waits(site: Site) -> None:
    site.archiver.await_line(
        f"{site.loses.stream}: its losses can't be published, so it isn't committed: .*too large"
    )
    status, text = get(site.port, "/healthz")
    assert status == 503
    assert "can't be published on g3.files, so their streams wait: Broker: Message size too large" in text
    site.loses.end()
    site.take()
    site.archiver.await_line(rf"{site.loses.stream}: finished .* \(end\)")
    eventually(lambda: get(site.port, "/healthz") == (200, "ok\n"), "all is well")
