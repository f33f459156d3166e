"""Real programs, monitored by a real Prometheus: all queried metrics exist, panels have data, alerts fire.

One of two ingests is killed before anything is queried: rules and dashboard have to show it.
"""

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
from tests.monitoring.dashboard import PANELS, expressions, queries
from tests.monitoring.promtool import prometheus_or_skip
from tests.support.processes import Program, RawSender, Recorder, eventually, flow, get, scan

MONITORING = Path(__file__).parents[2] / "compose" / "monitoring"
RULES = (MONITORING / "alerts.yml").read_text()


@dataclass(frozen=True, slots=True)
class Scene:
    """A stream that is being recorded, and another one."""

    stream: str
    ports: Mapping[str, int]
    """HTTP port of each program, by job."""
    victim: str
    """The other stream."""
    victim_port: int
    """HTTP port of its ingest."""
    victim_ingest: Program
    connection: socket.socket
    """The sender's connection to ingest."""
    victim_connection: socket.socket
    senders: ExitStack
    """Closing it ends both senders."""

    def metrics(self, job: str) -> str:
        """Return the program's present metrics."""
        status, text = get(self.ports[job], "/metrics")
        assert status == 200
        return text


@pytest.fixture(scope="module")
def scene(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One acquisition is recorded and another has begun; the sender is connected, and sends nothing."""
    stream = f"monitored-{secrets.token_hex(4)}"
    victim = f"{stream}-victim"
    ports = {"ingest": free_port(), "archiver": free_port()}
    victim_port = free_port()
    with Recorder(kafka, stream, tmp_path_factory.mktemp("recorder")) as recorder, ExitStack() as stack:
        sender = stack.enter_context(RawSender())
        recorder.create_topic()
        recorder.create_topic(victim)
        hand_over = "--on-file", "true", "--suprsync-db", str(recorder.directory / "suprsync.db")
        recorder.archiver("--http", str(ports["archiver"]), "--stream", victim, *hand_over)
        # The senders are silent while Prometheus is fetched, which may take minutes.
        patient = "--timeout", "600"
        recorder.ingest(sender.port, "--http", str(ports["ingest"]), *patient)
        other_sender = stack.enter_context(RawSender())
        # The later --stream wins; it has the same directory for spools.
        ingest = recorder.ingest(other_sender.port, "--stream", victim, "--http", str(victim_port), *patient)
        other_connection = stack.enter_context(other_sender.accept())
        connection = stack.enter_context(sender.accept())
        connection.sendall(flow(1) + b"".join(map(scan, range(20))) + flow(2) + scan(20))
        eventually(lambda: bool(recorder.files()), "a finished file")
        scene = Scene(stream, ports, victim, victim_port, ingest, connection, other_connection, stack)
        recorded = f'g3_archiver_frames_total{{stream="{stream}"}} 21.0'
        eventually(lambda: recorded in scene.metrics("archiver"), "all frames are durable")
        eventually(lambda: "g3_archiver_finalized_until" in scene.metrics("archiver"), "up to when it is final")
        yield scene


def test_promtool_finds_nothing_wrong_with_the_metrics(scene: Scene) -> None:
    promtool = prometheus_or_skip()
    for job in scene.ports:
        assert promtool.check("check", "metrics", stdin=scene.metrics(job)) == ""


def test_every_metric_is_explained(scene: Scene) -> None:
    explained = (MONITORING.parents[1] / "docs" / "reference" / "metrics.md").read_text()
    for job in scene.ports:
        named = re.findall(rf"^# TYPE (g3_{job}_\w+) (\w+)$", scene.metrics(job), re.MULTILINE)
        assert len(named) > 12
        assert [(name, kind) for name, kind in named if f"\n| `{name}` | {kind} |" not in explained] == []


def test_all_that_rules_and_dashboard_query_exists(scene: Scene) -> None:
    labels: dict[str, set[str]] = {
        "up": {"stream"},
        "ALERTS": {"alertname", "alertstate", "stream"},
        "g3:ingest_up": {"stream"},
        "g3:stream_state": {"stream"},
    }
    for job in scene.ports:
        for family in text_string_to_metric_families(scene.metrics(job)):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    rules = re.findall(r"- (?:alert|record): (\S+)\n.*?expr: (.*?)\n(?: +(?:for|labels):|\n)", RULES, re.DOTALL)
    assert len(rules) == RULES.count("- alert:") + RULES.count("- record:")
    for where, expr in [*rules, *queries()]:
        by_name = re.sub(r"[{]__name__=.*?[}]", "g3_ingest_build_info", expr)
        bare = re.sub(r'"[^"]*"', '""', by_name)
        names = set(re.findall(r"\b(?:g3[_:]\w+|process_\w+|up|ALERTS)\b", bare))
        assert names, where
        assert names <= labels.keys(), where
        for name, matchers in re.findall(r"([\w:]+)\{(.*?)\}", bare):
            used = set(re.findall(r"(\w+) *[=!]", matchers))
            assert used <= labels[name] | {"job", "instance"}, f"{where}: {name}"
        by = {label for listed in re.findall(r"\bby \((.*?)\)", bare) for label in listed.split(", ")}
        assert by <= {"job", "instance"}.union(*(labels[name] for name in names)), where


@pytest.fixture(scope="module")
def prometheus(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Prometheus that monitors the scene, with our settings but shorter intervals.

    The victim's ingest has been killed since. The settings name the stream of the other ingest, but not the victim.
    """
    programs = prometheus_or_skip()
    directory = tmp_path_factory.mktemp("prometheus")
    settings = re.sub(r"1[05]s", "1s", (MONITORING / "prometheus.yml").read_text())
    targets = {
        "[ingest-crate1slot2:9101], labels: {stream: crate1slot2}": f"['{HOST}:{scene.ports['ingest']}'], "
        f"labels: {{stream: {scene.stream}}}",
        "[ingest-crate1slot3:9101], labels: {stream: crate1slot3}": f"['{HOST}:{scene.victim_port}']",
        "[archiver:9102]": f"['{HOST}:{scene.ports['archiver']}']",
    }
    for ours, theirs in targets.items():
        assert ours in settings
        settings = settings.replace(ours, theirs)
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
        eventually(lambda: len(query(port, "up == 1")) == 3, "all are scraped")
        scene.connection.sendall(scan(21))
        scene.victim_connection.sendall(scan(0))
        eventually(lambda: len(query(port, "rate(g3_ingest_frames_total[1m]) > 0")) == 2, "a rate of frames of both")
        eventually(lambda: bool(query(port, "rate(g3_archiver_frames_total[1m]) > 0")), "a rate of durable frames")
        eventually(lambda: len(query(port, "g3:ingest_up == 1")) == 2, "both streams are known")
        scene.victim_ingest.kill()
        eventually(lambda: len(query(port, "g3:ingest_up == 0")) == 1, "one of them is known to be down")
        yield port
    finally:
        process.kill()
        process.wait()


def test_every_panel_shows_something(prometheus: int, scene: Scene) -> None:
    for title, expr in queries():
        found = query(prometheus, shown(expr, scene.stream))
        may_be_empty = title in ("Alerts", "annotation Alerts", "annotation Losses") or expr.startswith("6 + (up")
        assert found or may_be_empty, f"{title}: {expr}"


def test_a_dead_ingest_stays_visible(prometheus: int, scene: Scene) -> None:
    """Its stream has a tile, a row in the timeline, and one in the table: no ingest; and an alert with its name."""
    for title in ("Streams", "States over time", "Each stream"):
        panel = next(panel for panel in PANELS if panel["title"] == title)
        states = query(prometheus, shown(expressions(panel)[0], ".*"))
        found = {each["metric"]["stream"]: each["value"][1] for each in states}
        alive = found.get(scene.stream)
        assert found == {scene.victim: "6", scene.stream: alive}, title
        assert alive in ("0", "1"), f"{title}: recording, or idle"
    known = next(panel for panel in PANELS if panel["title"] == "Streams")
    assert not query(prometheus, expressions(known)[1]), "a tile of an unknown stream, but it is known"

    down = 'ALERTS{alertname="G3Down", alertstate="firing"}'
    eventually(lambda: bool(query(prometheus, down)), "the alert")
    [alert] = alerts(prometheus)["G3Down"]
    assert alert["labels"]["stream"] == scene.victim
    assert "g3_repository" not in alert["labels"]
    where = f"{HOST}:{scene.victim_port}"
    assert alert["annotations"]["summary"] == f"ingest of stream {scene.victim} at {where} is down"
    [base] = re.findall(r"g3_repository: (http\S+/)$", (MONITORING / "prometheus.yml").read_text(), re.MULTILINE)
    assert alert["annotations"]["runbook_url"] == f"{base}docs/operate/alerts.md#g3down"


@pytest.mark.slow
def test_a_sender_that_is_gone_is_an_alert_and_nothing_else_is(prometheus: int, scene: Scene) -> None:
    def others() -> dict[str, list[Any]]:
        return {name: found for name, found in alerts(prometheus).items() if name != "G3Down"}

    def evaluated() -> list[str]:
        rules = [rule for group in ask(prometheus, "rules")["groups"] for rule in group["rules"]]
        return [rule["name"] for rule in rules if rule["health"] == "ok"]

    named = re.findall(r"- (?:alert|record): (\S+)", RULES)
    eventually(lambda: sorted(evaluated()) == sorted(named), "all rules work")
    eventually(lambda: not others(), "no alert")
    scene.senders.close()
    eventually(lambda: [alert["state"] for found in others().values() for alert in found] == ["firing"], "the alert")
    [alert] = others()["G3StreamDisconnected"]
    assert alert["labels"]["stream"] == scene.stream
    assert alert["annotations"]["summary"] == f"Stream {scene.stream} is disconnected"
    state = f'g3:stream_state{{stream="{scene.stream}"}} == 5'
    eventually(lambda: bool(query(prometheus, state)), "the state: disconnected")


def alerts(port: int) -> dict[str, list[Any]]:
    """Return the pending and firing alerts by name, but those of disks: other programs may fill this machine's."""
    found: dict[str, list[Any]] = {}
    for alert in ask(port, "alerts")["alerts"]:
        found.setdefault(alert["labels"]["alertname"], []).append(alert)
    return {name: each for name, each in found.items() if "Disk" not in name}


def shown(expr: str, stream: str) -> str:
    """Return a query of the dashboard as Grafana sends it, with this choice of streams."""
    variables = {"$stream": stream, "$__rate_interval": "1m", "$__range": "5m", "$top": "10"}
    for variable, value in variables.items():
        expr = expr.replace(variable, value)
    return expr


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
