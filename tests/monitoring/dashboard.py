"""The Grafana dashboard, read from its file."""

import json
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "compose" / "monitoring" / "grafana"

DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "g3-recorder.json").read_text())

PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
"""The panels that show data."""


def expressions(panel: dict[str, Any]) -> list[str]:
    """Return a panel's queries to Prometheus."""
    return [target["expr"] for target in panel["targets"]]
