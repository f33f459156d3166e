"""Kafka is away: the page and a watched status say since when they aren't live, and are live again by themselves."""

from pathlib import Path

import pytest

from testbed.child_process import free_port
from testbed.kafka.broker import Broker
from tests.integration.commands.test_web import Web
from tests.support.archives import Source
from tests.support.processes import Recorder, eventually, get
from tests.support.terminal import Terminal


@pytest.mark.slow
def test_the_page_outlives_kafka_and_says_what_it_knows(stream: str, tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", free_port())
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder:
        web = Web(recorder)
        assert "Waiting for Kafka" in web.page("/")
        assert get(web.port, "/healthz")[0] == 503
        with web.updates() as updates:
            assert "for the first time" in web.page("/files")
            with broker:
                recorder.create_topic()
                updates.await_shown(f'id="stream-{stream}"', 'class="live yes"')
                recording = recorder.archiver()
                source = Source(recorder.servers, stream, epochs=0)
                source.start()
                source.scans(10)
                source.end()
                recording.await_line(r"finished .* \(end\)")
                eventually(lambda: web.json("/files.json")["total"] == 1, "the catalog has the file")
                assert get(web.port, "/healthz")[0] == 200
                broker.kill()
                updates.await_shown("Not live since", 'class="live no"')
                assert f'id="stream-{stream}"' in web.page("/"), "what was known is still shown"
                now = web.json("/now.json")
                assert (now["live"], [it["stream"] for it in now["streams"]]) == (False, [stream])
                assert web.json("/files.json")["total"] == 1
                eventually(lambda: "there may be more since" in web.page("/files"), "not current")
                broker.start()
                updates.await_shown('class="live yes"')
                eventually(lambda: "there may be more since" not in web.page("/files"), "current again")
        assert web.program.stop() == 0


@pytest.mark.slow
def test_a_watched_status_outlives_kafka(stream: str, tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka", free_port())
    with Recorder(broker.bootstrap_servers, stream, tmp_path) as recorder, broker:
        recorder.create_topic()
        servers = {"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers}
        with Terminal(["archiver", "status", "--watch", "0.1"], env=servers) as terminal:
            for _ in range(2):
                terminal.await_next("not recorded yet")
                broker.kill()
                terminal.await_next("Kafka can't be read")
                broker.start()
            terminal.await_next("not recorded yet")
            terminal.interrupt()
            assert terminal.exit_code() == 1, "no archiver runs"
