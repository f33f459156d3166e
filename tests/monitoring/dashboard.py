"""Grafana's dashboard, as its file says it."""

import json
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "compose" / "monitoring" / "grafana"

DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "g3-recorder.json").read_text())

PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
"""Those that show something."""


def expressions(panel: dict[str, Any]) -> list[str]:
    """What it asks of Prometheus."""
    return [target["expr"] for target in panel["targets"]]
