from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.facts import MetricsFacts
from gateway.telemetry.prometheus import render_metrics

DASHBOARD: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "interlock.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]


def expressions() -> list[str]:
    queries = [target["expr"] for panel in PANELS for target in panel.get("targets", ())]
    queries += [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    return queries + [annotation["expr"] for annotation in DASHBOARD["annotations"]["list"]]


def rendered(facts: MetricsFacts) -> dict[str, set[str]]:
    """The labels of every sample's name on the page."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(render_metrics(facts).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_that_is_queried_is_rendered(full_facts: MetricsFacts) -> None:
    queried = {name for expression in expressions() for name in re.findall(r"interlock_\w+", expression)}
    assert len(queried) > 20
    assert queried <= rendered(full_facts).keys()


def test_every_label_that_is_selected_belongs_to_its_metric(full_facts: MetricsFacts) -> None:
    known = rendered(full_facts)
    selected = [
        (name, label)
        for expression in expressions()
        for name, selector in re.findall(r"(interlock_\w+)\{([^}]*)\}", expression)
        for label in re.findall(r"(\w+)\s*[!=]~?=?\s*\"", selector)
    ]
    assert selected
    assert [pair for pair in selected if pair[1] not in known[pair[0]]] == []


def test_every_grouping_label_and_legend_belongs_to_the_metrics_queried(full_facts: MetricsFacts) -> None:
    known = rendered(full_facts)
    for panel in PANELS:
        for target in panel.get("targets", ()):
            labels = set.intersection(*(known[name] for name in re.findall(r"interlock_\w+", target["expr"])))
            for group in re.findall(r"by \(([^)]*)\)", target["expr"]):
                assert set(re.findall(r"\w+", group)) <= labels, target["expr"]
            groups = re.findall(r"by \(([^)]*)\)", target["expr"])
            shown = set(re.findall(r"\w+", " ".join(groups))) if groups else labels
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= shown, target["legendFormat"]


def test_panels_are_apart_and_inside_the_grid() -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(x < 24 for panel in PANELS for x, _ in cells(panel))
    assert not any(cells(one) & cells(other) for one, other in combinations(PANELS, 2))


def test_the_dashboard_finds_its_data_source_by_variable() -> None:
    sources = {target["datasource"]["uid"] for panel in PANELS for target in panel.get("targets", ())}
    assert sources == {"${datasource}"}
