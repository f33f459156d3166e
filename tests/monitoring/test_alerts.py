"""The alert rules, as promtool judges them: each fires when it should, and doesn't when it nearly should."""

import re
from pathlib import Path

import pytest

from tests.monitoring.promtool import prometheus_or_skip

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "compose" / "monitoring"
RULES = (MONITORING / "alerts.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
TESTS = sorted((MONITORING / "tests").glob("*.yml"))


def test_prometheus_takes_its_settings() -> None:
    promtool = prometheus_or_skip()
    promtool.check("check", "config", str(MONITORING / "prometheus.yml"))
    promtool.check("check", "rules", "--lint=all", "--lint-fatal", str(MONITORING / "alerts.yml"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(path: Path) -> None:
    prometheus_or_skip().check("test", "rules", str(path))


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_tested_both_ways_and_refers_to_the_handbook(alert: str) -> None:
    said = [
        line_or_block
        for path in TESTS
        # Either `{eval_time: …, alertname: X, exp_alerts: []}`, or a block with what is expected.
        for line_or_block in re.findall(rf"alertname: {alert}\b(.*\n.*)", path.read_text())
    ]
    silent = [each for each in said if re.match(r", exp_alerts: \[\]", each)]
    assert silent, "no near miss"
    assert len(said) > len(silent), "it never fires"

    rule = RULES[RULES.index(f"- alert: {alert}\n") :].partition("\n\n")[0]
    url = f"{{{{ $externalLabels.g3_repository }}}}docs/operate/alerts.md#{alert.lower()}"
    assert f'runbook_url: "{url}"\n' in f"{rule}\n"


def test_the_handbook_explains_each_alert_and_no_other() -> None:
    assert re.findall(r"^### (G3\w+)$", (ROOT / "docs" / "operate" / "alerts.md").read_text(), re.MULTILINE) == ALERTS
