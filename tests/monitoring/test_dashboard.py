"""The dashboard's file is one that Grafana takes, as far as that can be seen without Grafana."""

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from tests.monitoring.dashboard import DASHBOARD, GRAFANA, PANELS, expressions


def test_it_is_found_and_finds_its_data() -> None:
    provider = (GRAFANA / "provisioning" / "dashboards" / "g3-recorder.yaml").read_text()
    assert "path: /var/lib/grafana/dashboards\n" in provider
    provisioned = (GRAFANA / "provisioning" / "datasources" / "prometheus.yaml").read_text()
    used = list(data_sources(DASHBOARD))
    assert len(used) > len(PANELS)
    for source in used:
        assert source["type"] == "prometheus"
        assert f"uid: {source['uid']} " in provisioned
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["stream"]
    assert DASHBOARD["schemaVersion"] >= 39


def test_each_panel_has_its_own_id_and_place() -> None:
    panels = DASHBOARD["panels"]
    assert [panel_id for panel_id, times in Counter(panel["id"] for panel in panels).items() if times > 1] == []
    places = [(panel["title"], panel["gridPos"]) for panel in panels]
    for title, place in places:
        assert place["x"] + place["w"] <= 24, title
    for (title, a), (other, b) in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{title} and {other} overlap"


def test_each_panel_asks_for_the_chosen_streams_where_it_can() -> None:
    for panel in PANELS:
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), panel["title"]
        for expr in expressions(panel):
            of_streams = "by (stream" in expr or "{{stream}}" in str(panel["targets"])
            assert ("$stream" in expr) or not of_streams or "g3_archiver_healthy" in expr, f"{panel['title']}: {expr}"


def data_sources(node: Any) -> Iterator[dict[str, str]]:
    """All that are named anywhere."""
    if isinstance(node, dict):
        if "datasource" in node:
            yield node["datasource"]
        for value in node.values():
            yield from data_sources(value)
    elif isinstance(node, list):
        for value in node:
            yield from data_sources(value)
