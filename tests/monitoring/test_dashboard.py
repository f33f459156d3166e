"""The dashboard's file is one that Grafana takes, as far as that can be seen without Grafana."""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import Any

from tests.monitoring.dashboard import ANNOTATIONS, DASHBOARD, GRAFANA, PANELS, expressions


def test_it_is_found_and_its_data_source_is_chosen_by_who_looks_at_it() -> None:
    provider = (GRAFANA / "provisioning" / "dashboards" / "g3-recorder.yaml").read_text()
    assert "path: /var/lib/grafana/dashboards\n" in provider
    used = list(data_sources(DASHBOARD))
    assert len(used) > len(PANELS)
    for source in used:
        assert source == {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert [*variables] == ["datasource", "stream", "top"]
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert DASHBOARD["schemaVersion"] >= 39


def test_alerts_restarts_and_losses_are_annotations() -> None:
    assert [each["name"] for each in ANNOTATIONS] == ["Alerts", "Restarts", "Losses"]
    assert all(each["enable"] for each in ANNOTATIONS)


def test_no_graph_has_a_line_for_each_of_forty_streams_or_ingests() -> None:
    graphs = [panel for panel in PANELS if panel["type"] == "timeseries"]
    for panel in graphs:
        for target in panel["targets"]:
            of_each = "{{stream}}" in target["legendFormat"] or "process_" in target["expr"]
            assert not of_each or "k($top, " in target["expr"], panel["title"]


def test_the_states_are_those_of_the_rule() -> None:
    rules = (GRAFANA.parent / "alerts.yml").read_text()
    listed = re.search(r"the worst that applies: (.*?)\.\n", rules, re.DOTALL)
    assert listed
    named = dict(re.findall(r"(\d) ([\w ]+)", re.sub(r"\s*#\s*", " ", listed[1])))
    assert len(named) == 7
    shown = [mapped for mapped in mappings(DASHBOARD) if "recording" in str(mapped)]
    assert len(shown) == 3, "tiles, a timeline and a table"
    for mapped in shown:
        assert {value: to["text"] for value, to in mapped.items()} == named


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
            unknown = expr.startswith("6 + (up")  # the streams of these ingests aren't known
            assert ("$stream" in expr) or not of_streams or unknown, f"{panel['title']}: {expr}"


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


def mappings(node: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """All mappings from values to texts."""
    if isinstance(node, dict):
        if node.get("type") == "value" and "options" in node:
            yield node["options"]
        for value in node.values():
            yield from mappings(value)
    elif isinstance(node, list):
        for value in node:
            yield from mappings(value)
