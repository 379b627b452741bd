"""Every PromQL expression that the chart ships, with where it stands.

In: the dashboard's JSON and the file of rules. Out: `Query` and `Alert` values; expressions as Grafana would send them.
Rule: nothing is left out: panels, the dashboard's variables and annotations, every rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.charts.rendered import CHART

DASHBOARD: Final = CHART / "dashboards" / "wsgi-servers.json"
RULES: Final = CHART / "alerts" / "wsgi.rules.yaml"
EVERYTHING: Final[Mapping[str, str]] = {
    "$namespace": ".*",
    "$wsgiserver": ".*",
    "$pod": ".*",
    "$__rate_interval": "20s",
    "$__range": "10m",
}
"""What Grafana puts in the place of its variables when All is chosen; the interval fits scrapes of 1 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression of the dashboard.

    Attributes:
        where: row and panel, for a person.
        expr: as it stands in the file.
    """

    where: str
    expr: str

    @property
    def sent(self) -> str:
        """As Grafana sends it."""
        text = self.expr
        for name, value in EVERYTHING.items():
            text = text.replace(name, value)
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule."""

    group: str
    name: str
    expr: str
    waits: str
    severity: str
    annotations: Mapping[str, str]


def dashboard() -> dict[str, Any]:
    """The dashboard as an object."""
    return dict(json.loads(DASHBOARD.read_text(encoding="utf-8")))


def queries() -> tuple[Query, ...]:
    """Every expression of the dashboard."""
    return tuple(_queries(dashboard()))


def _queries(board: Mapping[str, Any]) -> Iterator[Query]:
    row = ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", ()):
            yield Query(where=f"{row} / {panel['title']} / {target['refId']}", expr=target["expr"])
    for annotation in board["annotations"]["list"]:
        yield Query(where=f"annotation {annotation['name']}", expr=annotation["expr"])
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            (series, label) = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
            yield Query(
                where=f"variable {variable['name']}", expr=f"group by ({label}) ({series}) and on ({label}) {series}"
            )


def alerts() -> tuple[Alert, ...]:
    """Every rule."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return tuple(
        Alert(
            group=group["name"],
            name=rule["alert"],
            expr=rule["expr"],
            waits=rule.get("for", "0s"),
            severity=rule["labels"]["severity"],
            annotations=rule["annotations"],
        )
        for group in groups
        for rule in group["rules"]
    )


def metrics_in(expr: str) -> set[str]:
    """Names of our metrics that an expression asks for."""
    return set(re.findall(r"\bwsgi_[a-z_]+\b", re.sub(r"\b(by|on|without) \([^)]*\)", "", expr)))
