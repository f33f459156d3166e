"""The Grafana dashboard, read from its file."""

import json
from pathlib import Path
from typing import Any

GRAFANA = Path(__file__).parents[2] / "compose" / "monitoring" / "grafana"

DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "dashboards" / "g3-recorder.json").read_text())

PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
"""The panels that show data."""

ANNOTATIONS: list[dict[str, Any]] = DASHBOARD["annotations"]["list"]


def queries() -> list[tuple[str, str]]:
    """Return all queries to Prometheus, of panels and annotations, each with the title of where it is."""
    shown = [(panel["title"], expr) for panel in PANELS for expr in expressions(panel)]
    return shown + [(f"annotation {each['name']}", each["expr"]) for each in ANNOTATIONS]


def expressions(panel: dict[str, Any]) -> list[str]:
    """Return a panel's queries to Prometheus."""
    return [target["expr"] for target in panel["targets"]]
