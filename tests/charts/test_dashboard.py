"""The dashboard, without a Grafana: its form, its layout, and that it asks for nothing that does not exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.charts.expressions import DASHBOARD, alerts, dashboard, metrics_in, queries
from tests.charts.rendered import one, render
from tests.charts.test_documents import families, operator_families

ROWS = (
    "Is anybody served?",
    "Are there free slots?",
    "Are the workers there, and do they move?",
    "Why do workers end?",
    "Incidents",
    "What was killed, and did it die?",
    "Memory and CPU",
    "Requests (only where statsd is on: docs/statsd.md)",
    "What is not visible, and what will hurt one day",
    "The operator",
)
PANELS: list[dict[str, Any]] = dashboard()["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]


def test_each_row_is_a_question() -> None:
    assert tuple(panel["title"] for panel in PANELS if panel["type"] == "row") == ROWS


@pytest.mark.parametrize("panel", DRAWN, ids=lambda panel: panel["title"])
def test_each_panel_says_what_it_shows_and_has_a_unit(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == [chr(65 + i) for i in range(len(panel["targets"]))]


def test_no_two_panels_overlap_and_none_has_the_id_of_another() -> None:
    places = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in PANELS
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 23, "24 columns"
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


@pytest.mark.parametrize("query", queries(), ids=lambda query: query.where)
def test_each_query_of_servers_heeds_all_three_variables(query: Any) -> None:
    if query.where.startswith(("The operator", "variable")):
        return
    selectors = re.findall(r"wsgi_\w+\{([^}]*)\}", query.expr)
    assert len(selectors) == len(re.findall(r"\bwsgi_\w+", query.expr)), "a metric without a selector"
    for selector in selectors:
        for variable in ("namespace", "wsgiserver", "pod"):
            assert f'{variable}=~"${variable}"' in selector


def test_all_that_is_asked_for_exists_and_most_of_what_exists_is_shown() -> None:
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for expr in [*(query.expr for query in queries()), *(alert.expr for alert in alerts())]
        for name in metrics_in(expr)
    }
    known = {*families(), *(name for name in operator_families() if name.startswith("wsgi_"))}
    assert asked - known == set()
    assert len(asked) >= 0.8 * len(known)


def test_the_configmap_holds_the_file_to_the_letter_under_the_usual_label() -> None:
    made = one(render({"dashboards": {"enabled": True, "annotations": {"grafana_folder": "Python"}}}), "ConfigMap")
    assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert made["metadata"]["annotations"] == {"grafana_folder": "Python"}
    assert made["data"] == {DASHBOARD.name: DASHBOARD.read_text(encoding="utf-8")}
    assert len(yaml.safe_dump(made)) < 500_000, "an object holds a megabyte at most"


def test_another_label_takes_the_place_of_the_usual_one() -> None:
    labels = {"grafana_dashboard": None, "dashboards": "yes"}
    made = one(render({"dashboards": {"enabled": True, "labels": labels}}), "ConfigMap")
    assert made["metadata"]["labels"].items() >= {"dashboards": "yes"}.items()
    assert "grafana_dashboard" not in made["metadata"]["labels"]
