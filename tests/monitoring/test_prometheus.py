"""Real programs, monitored by a real Prometheus: all queried metrics exist, panels have data, alerts fire."""

import json
import re
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from prometheus_client.parser import text_string_to_metric_families

from testbed.child_process import HOST, free_port, start_child_process
from tests.monitoring.dashboard import PANELS, expressions
from tests.monitoring.promtool import prometheus_or_skip
from tests.support.processes import RawSender, Recorder, eventually, flow, get, scan

MONITORING = Path(__file__).parents[2] / "compose" / "monitoring"
RULES = (MONITORING / "alerts.yml").read_text()


@dataclass(frozen=True, slots=True)
class Scene:
    """A stream that is being recorded."""

    stream: str
    ports: Mapping[str, int]
    """HTTP port of each program, by job."""
    connection: socket.socket
    """The sender's connection to ingest."""
    sender: ExitStack
    """Closing it ends the sender."""

    def metrics(self, job: str) -> str:
        """Return the program's present metrics."""
        status, text = get(self.ports[job], "/metrics")
        assert status == 200
        return text


@pytest.fixture(scope="module")
def scene(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One acquisition is recorded and another has begun; the sender is connected, and sends nothing."""
    stream = f"monitored-{secrets.token_hex(4)}"
    ports = {"ingest": free_port(), "archiver": free_port()}
    with Recorder(kafka, stream, tmp_path_factory.mktemp("recorder")) as recorder, ExitStack() as stack:
        sender = stack.enter_context(RawSender())
        recorder.create_topic()
        hand_over = "--on-file", "true", "--suprsync-db", str(recorder.directory / "suprsync.db")
        recorder.archiver("--http", str(ports["archiver"]), *hand_over)
        recorder.ingest(sender.port, "--http", str(ports["ingest"]))
        connection = stack.enter_context(sender.accept())
        connection.sendall(flow(1) + b"".join(map(scan, range(20))) + flow(2) + scan(20))
        eventually(lambda: bool(recorder.files()), "a finished file")
        scene = Scene(stream, ports, connection, stack)
        recorded = f'g3_archiver_frames_total{{stream="{stream}"}} 21.0'
        eventually(lambda: recorded in scene.metrics("archiver"), "all frames are durable")
        eventually(lambda: "g3_archiver_finalized_until" in scene.metrics("archiver"), "up to when it is final")
        yield scene


def test_promtool_finds_nothing_wrong_with_the_metrics(scene: Scene) -> None:
    promtool = prometheus_or_skip()
    for job in scene.ports:
        assert promtool.check("check", "metrics", stdin=scene.metrics(job)) == ""


def test_every_metric_is_explained(scene: Scene) -> None:
    explained = (MONITORING.parents[1] / "docs" / "monitoring.md").read_text()
    for job in scene.ports:
        named = re.findall(rf"^# TYPE g3_{job}_(\w+)", scene.metrics(job), re.MULTILINE)
        assert len(named) > 12
        assert [name for name in named if f"`{name}`" not in explained] == []


def test_all_that_rules_and_dashboard_query_exists(scene: Scene) -> None:
    labels: dict[str, set[str]] = {"up": set(), "ALERTS": {"alertname", "alertstate"}}
    for job in scene.ports:
        for family in text_string_to_metric_families(scene.metrics(job)):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    queries = re.findall(r"- alert: (\w+)\n.*?expr: (.*?)\n +(?:for|labels):", RULES, re.DOTALL)
    assert len(queries) == RULES.count("- alert:")
    queries += [(panel["title"], expr) for panel in PANELS for expr in expressions(panel)]
    for where, expr in queries:
        bare = re.sub(r'"[^"]*"', '""', expr)
        names = set(re.findall(r"\b(?:g3_\w+|process_\w+|up|ALERTS)\b", bare))
        assert names, where
        assert names <= labels.keys(), where
        for name, matchers in re.findall(r"(\w+)\{(.*?)\}", bare):
            used = set(re.findall(r"(\w+) *[=!]", matchers))
            assert used <= labels[name] | {"job", "instance"}, f"{where}: {name}"
        by = {label for listed in re.findall(r"\bby \((.*?)\)", bare) for label in listed.split(", ")}
        assert by <= {"job", "instance"}.union(*(labels[name] for name in names)), where


@pytest.fixture(scope="module")
def prometheus(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Prometheus that monitors the scene, with our settings but shorter intervals."""
    programs = prometheus_or_skip()
    directory = tmp_path_factory.mktemp("prometheus")
    settings = re.sub(r"1[05]s", "1s", (MONITORING / "prometheus.yml").read_text())
    settings = re.sub(r"ingest-\S+:9101, ingest-\S+:9101", f"{HOST}:{scene.ports['ingest']}", settings)
    settings = settings.replace("archiver:9102", f"{HOST}:{scene.ports['archiver']}")
    (directory / "prometheus.yml").write_text(settings)
    (directory / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 1s", RULES))
    port = free_port()
    with (directory / "log").open("wb") as log:
        process = start_child_process(
            [
                str(programs.server),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address={HOST}:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: process.poll() is not None or answers(port), "Prometheus answers")
        assert process.poll() is None, (directory / "log").read_text()
        eventually(lambda: len(query(port, "up == 1")) == 2, "both are scraped")
        scene.connection.sendall(scan(21))
        eventually(lambda: bool(query(port, "rate(g3_ingest_frames_total[1m]) > 0")), "a rate of frames")
        eventually(lambda: bool(query(port, "rate(g3_archiver_frames_total[1m]) > 0")), "a rate of durable frames")
        yield port
    finally:
        process.kill()
        process.wait()


def test_every_panel_shows_something(prometheus: int, scene: Scene) -> None:
    for panel in PANELS:
        for expr in expressions(panel):
            shown = expr.replace("$stream", scene.stream).replace("$__rate_interval", "1m").replace("$__range", "5m")
            found = query(prometheus, shown)
            assert found or panel["title"] == "Alerts", f"{panel['title']}: {shown}"


def test_a_sender_that_is_gone_is_an_alert_and_nothing_else_is(prometheus: int, scene: Scene) -> None:
    def alerts() -> dict[str, Any]:
        # Other programs may fill this machine's disk.
        found = {alert["labels"]["alertname"]: alert for alert in ask(prometheus, "alerts")["alerts"]}
        return {name: alert for name, alert in found.items() if "Disk" not in name}

    def evaluated() -> list[str]:
        rules = [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]
        return [rule["name"] for rule in rules if rule["health"] == "ok"]

    eventually(lambda: sorted(evaluated()) == sorted(re.findall(r"- alert: (\w+)", RULES)), "all rules work")
    eventually(lambda: not alerts(), "no alert")
    scene.sender.close()
    eventually(lambda: [alert["state"] for alert in alerts().values()] == ["firing"], "the alert")
    alert = alerts()["G3StreamDisconnected"]
    assert alert["labels"]["stream"] == scene.stream
    assert alert["annotations"]["summary"] == f"Stream {scene.stream} is disconnected"


def query(port: int, expr: str) -> list[Any]:
    """Return the present series of an expression."""
    result: list[Any] = ask(port, f"query?{urlencode({'query': expr})}")["result"]
    return result


def ask(port: int, what: str) -> dict[str, Any]:
    """Return Prometheus's answer."""
    _, text = get(port, f"/api/v1/{what}")
    answer = json.loads(text)
    assert answer["status"] == "success", f"{what}: {text}"
    data: dict[str, Any] = answer["data"]
    return data


def answers(port: int) -> bool:
    """Whether Prometheus is ready."""
    try:
        return get(port, "/-/ready")[0] == 200
    except OSError:
        return False
